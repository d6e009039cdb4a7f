"""The corpus's own transcripts, as if an ASR had made them."""

from serflow import job
from serflow.asr.join import reference
from serflow.tables import TRANSCRIPTS, UTTERANCES


def main(smk, settings):
    rows = reference(UTTERANCES.read(smk.input[0]), settings["name"], smk.wildcards.corpus)
    TRANSCRIPTS.write(rows, smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
