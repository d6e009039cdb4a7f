"""Parse a corpus into its listing, and its raters' votes where it has them."""

from importlib import import_module
from pathlib import Path

import pandas as pd

from serflow import job
from serflow.tables import LISTING, VOTES


def main(smk, settings):
    corpus = import_module(f"serflow.corpora.{settings['source']}")
    folder = Path(settings["folder"]).expanduser()
    listing = corpus.read(folder, **settings["reading"])
    votes = pd.DataFrame(columns=list(VOTES.columns))
    if hasattr(corpus, "read_votes"):
        votes = corpus.read_votes(folder, listing)
    LISTING.write(listing, smk.output.listing)
    VOTES.write(votes, smk.output.votes)


if __name__ == "__main__":
    job.run(main, snakemake)
