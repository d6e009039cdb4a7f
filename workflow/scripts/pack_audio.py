"""Decode a corpus once, into its packed store."""

from pathlib import Path

from serflow import job
from serflow.packing import pack
from serflow.tables import LISTING, SKIPPED, UTTERANCES


def main(smk, settings):
    utterances, skipped = pack(
        LISTING.read(smk.input.listing),
        smk.output.samples,
        smk.output.index,
        root=Path(settings["folder"]).expanduser(),
        bad_audio=settings["bad_audio"],
        workers=smk.threads,
    )
    UTTERANCES.write(utterances, smk.output.utterances)
    SKIPPED.write(skipped, smk.output.skipped)


if __name__ == "__main__":
    job.run(main, snakemake)
