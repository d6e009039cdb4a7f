"""Join the study's corpora, keep what it asks for, and give every utterance one of its classes."""

import json

import pandas as pd

from serflow import job
from serflow.files import write_text
from serflow.labels import apply_labels, keep_rows
from serflow.tables import UTTERANCES


def main(smk, settings):
    listings = pd.concat([UTTERANCES.read(path) for path in smk.input], ignore_index=True)
    kept, out = keep_rows(listings, settings["keep"])
    labels = settings["labels"]
    classes = settings["classes"] + labels["train_only"]
    rows, dropped = apply_labels(kept, classes, labels["map"], labels["drop"], labels["unlabelled"])
    UTTERANCES.write(rows, smk.output.utterances)
    write_text(smk.output.dropped, json.dumps(out | dropped, indent=1))


if __name__ == "__main__":
    job.run(main, snakemake)
