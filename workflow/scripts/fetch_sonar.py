"""Download SONAR's speech encoder of one language and convert it for transformers."""

from pathlib import Path

from serflow import job
from serflow.acquisition.download import fetch
from serflow.acquisition.source import Remote
from serflow.nets.sonar_checkpoint import convert


def main(smk, settings):
    remote = Remote(**settings["remote"] | {"urls": tuple(settings["remote"]["urls"])})
    downloads = Path(settings["downloads"]).expanduser()
    fetch(remote, downloads)
    convert(downloads / remote.name, Path(smk.output[0]).parent)


if __name__ == "__main__":
    job.run(main, snakemake)
