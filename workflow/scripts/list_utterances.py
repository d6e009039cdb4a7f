"""Parse a corpus into its listing."""

from importlib import import_module
from pathlib import Path

from serflow import job
from serflow.errors import UserError
from serflow.tables import LISTING


def main(smk, settings):
    if not settings["folder"]:
        raise UserError(
            f"corpus '{settings['corpus']}' has no folder: set paths.{settings['corpus']} in "
            "config.yaml to where you keep it"
        )
    corpus = import_module(f"serflow.corpora.{settings['source']}")
    folder = Path(settings["folder"]).expanduser()
    LISTING.write(corpus.read(folder, **settings["reading"]), smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
