"""Join the shards: exactly one row for every utterance, in the corpus's order."""

from serflow import job
from serflow.asr.join import join
from serflow.tables import SKIPPED, TRANSCRIPTS, UTTERANCES


def main(smk, settings):
    shards = [TRANSCRIPTS.read_with_metadata(path) for path in smk.input.shards]
    utterances, skipped = UTTERANCES.read(smk.input.utterances), SKIPPED.read(smk.input.skipped)
    rows, facts = join(utterances, skipped, shards, smk.wildcards.asr)
    TRANSCRIPTS.write(rows, smk.output[0], facts)


if __name__ == "__main__":
    job.run(main, snakemake)
