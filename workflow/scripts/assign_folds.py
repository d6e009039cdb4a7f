"""Assign every utterance its role in every fold."""

import json

from serflow import job
from serflow.files import write_text
from serflow.folds import assign, folds_digest
from serflow.tables import FOLDS, UTTERANCES


def main(smk, settings):
    options = settings["folds"] | {"train_only": settings["labels"]["train_only"]}
    folds, notes = assign(UTTERANCES.read(smk.input.utterances), **options)
    facts = {"digest": folds_digest(folds), **settings["folds"]}
    FOLDS.write(folds, smk.output.folds, facts)
    write_text(smk.output.notes, json.dumps(notes, indent=1))


if __name__ == "__main__":
    job.run(main, snakemake)
