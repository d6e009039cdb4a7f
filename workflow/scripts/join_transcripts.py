"""Join the shards: exactly one transcript for every utterance, in the corpus's order."""

from serflow import job
from serflow.asr.join import join
from serflow.tables import TRANSCRIPTS, UTTERANCES


def main(smk, settings):
    shards = [TRANSCRIPTS.read_with_metadata(path) for path in smk.input.shards]
    rows, facts = join(UTTERANCES.read(smk.input.utterances), shards, smk.wildcards.asr)
    TRANSCRIPTS.write(rows, smk.output[0], facts)


if __name__ == "__main__":
    job.run(main, snakemake)
