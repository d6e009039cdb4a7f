"""Train one system on one fold; what it is and what it predicts of the fold in one folder."""

import json
import shutil
import sys
from pathlib import Path

from serflow import job, launch, preemption
from serflow.attributes import Scale
from serflow.config.grids import placed
from serflow.context import Context
from serflow.digests import canonical, digest
from serflow.files import atomic_folder, write_text
from serflow.grids import chosen_point
from serflow.scratch import scratch_folder, staged_inputs
from serflow.systems.fold_run import join_fold, train_and_score
from serflow.systems.inputs import read_inputs, read_sounds
from serflow.systems.interface import build
from serflow.tables import FOLDS, UTTERANCES


def main(smk, settings):
    preemption.watch(smk.resources.get("runtime"))
    block, classes, train_only = (settings[x] for x in ("system", "classes", "train_only"))
    processes = block.get("gpus", 1)
    threads = max(1, smk.threads // processes)
    if processes > 1 and not launch.is_worker():
        launch.run([sys.executable, *sys.argv], processes, threads)
        return
    chosen = chosen_point(smk.input.get("grid"))
    block = placed(block, chosen)
    system_digest = digest(smk.params.settings, smk.params.code, canonical(chosen))
    for file in smk.input.get("models", []):
        block["model"] = str(Path(file).parent)
    files = staged_inputs(dict(smk.input.items()), scratch_folder(smk.config.get("scratch")))
    scale = settings["scale"] and Scale(**settings["scale"])
    fold = join_fold(
        UTTERANCES.read(smk.input.utterances),
        FOLDS.read(smk.input.folds),
        smk.wildcards.fold,
        classes,
        train_only,
        scale,
        **read_inputs(files),
    )
    output, seed = Path(smk.output[0]), int(smk.wildcards.seed)
    # Outside the rule's outputs, which Snakemake deletes when a job fails: a retry resumes here.
    key = digest(system_digest, fold.data_digest(), canonical([seed, smk.threads]))
    checkpoints = output.parent / "checkpoints" / f"fold-{smk.wildcards.fold}-{key}"
    learnt, sounds = classes + train_only, read_sounds(files)
    context = Context(learnt, seed, checkpoints, threads, len(train_only), sounds, scale)
    system = build(block["family"], block, context)
    tables = train_and_score(system, smk.wildcards.system, fold, seed, system_digest)
    if launch.rank():
        return  # the first process writes
    with atomic_folder(output) as folder:
        system.save(folder)
        write_text(folder / "facts.json", json.dumps(system.facts_, indent=1))
        for name, table in tables.items():
            table.write(folder / f"{name}.parquet")
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    job.run(main, snakemake)
