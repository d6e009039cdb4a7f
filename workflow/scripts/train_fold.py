"""Train one system on one fold and export its posteriors."""

import json
import shutil
from pathlib import Path

import pandas as pd

from serflow import job
from serflow.audio import AudioStore
from serflow.context import Context
from serflow.digests import canonical, digest
from serflow.files import write_text
from serflow.sounds import Sounds
from serflow.systems.fold_run import join_fold, train_and_score
from serflow.systems.interface import build
from serflow.tables import EMBEDDINGS, FOLDS, FUNCTIONALS, TRANSCRIPTS, UTTERANCES

TABLES = {"functionals": FUNCTIONALS, "transcripts": TRANSCRIPTS, "embeddings": EMBEDDINGS}


def read_inputs(files):
    """The tables that the family asked for, by the names that `Fold` gives them."""
    inputs = {}
    if files.get("samples"):
        inputs["audio"] = AudioStore(zip(files.samples, files.index, strict=True))
    for name, table in TABLES.items():
        if files.get(name):
            rows = pd.concat([table.read(path) for path in files[name]])
            inputs[name] = rows.set_index("utterance_id")
    if "transcripts" in inputs:
        inputs["texts"] = inputs.pop("transcripts")["text"]
    return inputs


def read_sounds(files):
    """What augmentation mixes in, by corpus."""
    sounds = {}
    tables = (files.get(f"sound_{part}", []) for part in ("kinds", "samples", "index"))
    for kinds, *store in zip(*tables, strict=True):
        corpus = Path(kinds).parent.name
        sounds[corpus] = Sounds(corpus, AudioStore([store]), UTTERANCES.read(kinds))
    return sounds


def main(smk, settings):
    block, classes, train_only = (settings[x] for x in ("system", "classes", "train_only"))
    system_digest = digest(smk.params.settings, smk.params.code)
    for file in smk.input.get("models", []):
        block["model"] = str(Path(file).parent)
    fold = join_fold(
        UTTERANCES.read(smk.input.utterances),
        FOLDS.read(smk.input.folds),
        smk.wildcards.fold,
        classes,
        train_only,
        **read_inputs(smk.input),
    )
    output, seed = Path(smk.output.posteriors), int(smk.wildcards.seed)
    # Outside the rule's outputs, which Snakemake deletes when a job fails: a retry resumes here.
    key = digest(system_digest, fold.data_digest(), canonical([seed, smk.threads]))
    checkpoints = output.parent / "checkpoints" / f"fold-{smk.wildcards.fold}-{key}"
    learnt, sounds = classes + train_only, read_sounds(smk.input)
    context = Context(learnt, seed, checkpoints, smk.threads, len(train_only), sounds)
    system = build(block["family"], block, context)
    posteriors, facts = train_and_score(system, smk.wildcards.system, fold, seed, system_digest)
    system.save(Path(smk.output.system))
    write_text(output.with_suffix(".json"), json.dumps(facts, indent=1))
    posteriors.write(output)
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    job.run(main, snakemake)
