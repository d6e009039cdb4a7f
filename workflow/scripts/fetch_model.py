"""Fetch a model from the Hugging Face hub into its own folder."""

from pathlib import Path

from serflow import job
from serflow.models import fetch


def main(smk, settings):
    fetch(settings["model"], Path(smk.output[0]).parent)


if __name__ == "__main__":
    job.run(main, snakemake)
