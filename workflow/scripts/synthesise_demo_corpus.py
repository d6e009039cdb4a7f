"""Synthesise the demo's emotional speech."""

from pathlib import Path

from serflow import job
from serflow.demo.speech import synthesise


def main(smk, settings):
    synthesise(Path(smk.output[0]), settings["seed"])


if __name__ == "__main__":
    job.run(main, snakemake)
