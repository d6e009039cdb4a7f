"""A small study whose jobs last long enough to be hit by a fault."""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster import Cluster, Job
from runs import copy_workflow, snakemake
from slurm_runs import of_rule, wait_for
from small_emodb import with_emodb, write_small_emodb

STUDY = """
title: "Faults: two folds of a system that trains for some seconds, and of one that is quick"
classes: [anger, neutral, sadness]
corpora:
  emodb: {source: emodb, subset: true}
folds: {protocol: grouped_k_fold, group: speaker, k: 2}
audit:
  accept: [{overlap: sentence, reason: every speaker says every sentence}]
systems:
  svm: {family: functionals, classifier: svm}
  speech:
    family: speech_classifier
    model: results/models/tiny-w2v-bert
    adaptation: full
    head: {pooling: attentive_statistics, bottleneck: 16, hidden: 16}
    training: {epochs: 60, batch_size: 4, learning_rate: 1.0e-3}
    resources: cpu-small
fusions:
  both: {method: logistic_regression, systems: [svm, speech], fit_on: cross_fit}
intervals: {resamples: 200}
"""
FOLDS = (0, 1)
# Without report, figures and LaTeX, which are functions of these.
TARGET = ["results/faults/scores.csv", "--config", "studies=[faults]"]


def run_locally(base: Path) -> Path:
    """A complete run without Slurm; every faulty one must come to its tables."""
    folder = copy_workflow(base / "clone")
    (folder / "studies/faults.yaml").write_text(STUDY, encoding="utf-8")
    with_emodb(folder, write_small_emodb(base / "EmoDB, größer"))
    snakemake(folder, "--cores", "2", *TARGET)
    return folder


def half_done(complete: Path, target: Path) -> Path:
    """A copy of a complete run in which `speech` and all that follows from it are still to be done."""
    shutil.copytree(complete, target, symlinks=True)
    results = target / "results/faults"
    for lost in ("seed-1/systems/speech", "seed-1/posteriors", "seed-1/fusions"):
        shutil.rmtree(results / lost)
    for lost in ("scores.parquet", "scores.csv", "comparisons.parquet"):
        (results / lost).unlink()
    return target


def fold_of(folder: Path, fold: int, system: str = "speech") -> Path:
    """The folder of a trained fold."""
    return folder / f"results/faults/seed-1/systems/{system}/fold-{fold}"


def jobs_of(cluster: Cluster, folder: Path, fold: int, system: str = "speech") -> list[Job]:
    """The jobs that trained a fold, in order."""
    return of_rule(cluster.jobs(folder), f"train_fold_wildcards_faults_1_{system}_{fold}")


def checkpoints(folder: Path, fold: int) -> list[Path]:
    """The whole checkpoints of a fold that is being trained."""
    root = fold_of(folder, fold).parent / "checkpoints"
    return list(root.glob(f"fold-{fold}-*/**/checkpoint-*/sealed.json"))


def training_process(cluster: Cluster, job: Job) -> int:
    """The process that trains in a job."""
    for pid in cluster.processes():
        process = Path(f"/proc/{pid}")
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # over by now
        if f"SLURM_JOB_ID={job.id}".encode() in variables and any(
            word.endswith(b".train_fold.py") for word in command[:2]
        ):
            return pid
    raise AssertionError(f"job {job.id} has no training process")


def wait_until_training(cluster: Cluster, folder: Path, fold: int) -> Job:
    """The running job of a fold, once it has something to resume from."""
    wait_for(lambda: checkpoints(folder, fold), f"a checkpoint of fold {fold}")
    job = jobs_of(cluster, folder, fold)[-1]
    assert job.state == "RUNNING", job
    return job
