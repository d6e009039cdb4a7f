"""Train one system on one fold and export its posteriors."""

import json
import shutil
from pathlib import Path

from serflow import job
from serflow.context import Context
from serflow.digests import canonical, digest
from serflow.files import write_text
from serflow.systems.fold_run import join_fold, train_and_score
from serflow.systems.inputs import read_inputs, read_sounds
from serflow.systems.interface import build
from serflow.tables import FOLDS, UTTERANCES


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
