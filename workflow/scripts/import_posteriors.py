"""Bring a file of posteriors to the frozen boundary."""

import json
from pathlib import Path

from serflow import job
from serflow.digests import digest
from serflow.files import write_text
from serflow.folds import own_folds
from serflow.given import given_posteriors
from serflow.given_files import read_given
from serflow.tables import FOLDS, UTTERANCES

READING = ("id_column", "fold_column", "ignore", "order", "ids", "array")


def main(smk, settings):
    block, classes = settings["given"], settings["classes"]
    system = smk.wildcards.system
    columns = {label: block["columns"].get(label, label) for label in classes}
    reading = {name: block[name] for name in READING}
    given = read_given(block["file"], columns, whose=f"systems.{system}", **reading)
    utterances = UTTERANCES.read(smk.input.utterances)
    folds, facts = FOLDS.read_with_metadata(smk.input.folds)
    names = sorted(set(folds["fold"]), key=int)
    own = own_folds(utterances) if facts["protocol"] == "own_folds" else names
    posteriors, counts = given_posteriors(
        given,
        utterances,
        folds,
        system=system,
        where=f"systems.{system}: {block['file']}",
        classes=classes,
        values=block["values"],
        train_prior=block["train_prior"],
        fold_names=dict(zip(names, own, strict=True)),
        extra=block["extra"],
        seed=int(smk.wildcards.seed),
        system_digest=digest(smk.params.settings, smk.params.code),
    )
    posteriors.write(smk.output.posteriors)
    counts = {"file": Path(block["file"]).name, "values": block["values"], **counts}
    write_text(smk.output.facts, json.dumps(counts, indent=1))


if __name__ == "__main__":
    job.run(main, snakemake)
