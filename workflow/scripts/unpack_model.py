"""Unpack a .nemo file into its own folder."""

from pathlib import Path

from serflow import job
from serflow.models import unpack_nemo


def main(smk, settings):
    unpack_nemo(Path(smk.input[0]), Path(smk.output[0]).parent)


if __name__ == "__main__":
    job.run(main, snakemake)
