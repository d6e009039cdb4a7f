"""Join the study's corpora and give every utterance one of the study's classes."""

import json

import pandas as pd

from serflow import job
from serflow.files import write_text
from serflow.labels import apply_labels
from serflow.tables import UTTERANCES


def main(smk, settings):
    listings = pd.concat([UTTERANCES.read(path) for path in smk.input], ignore_index=True)
    rows, dropped = apply_labels(
        listings, settings["classes"], settings["labels"]["map"], settings["labels"]["drop"]
    )
    UTTERANCES.write(rows, smk.output.utterances)
    write_text(smk.output.dropped, json.dumps(dropped, indent=1))


if __name__ == "__main__":
    job.run(main, snakemake)
