"""A fold on two GPUs through Snakemake, on CPU: one job, one log, one result, in its place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import tiny_models
from runs import copy_workflow, snakemake
from serflow.posteriors import read_posteriors
from small_emodb import write_small_emodb

STUDY = """
title: "Words, on two GPUs"
classes: [anger, neutral, sadness]
corpora:
  tones: {{source: table, columns: {{label: emotion}}}}
folds: {{protocol: official}}
asr:
  gold: {{engine: reference}}
systems:
  text:
    family: text_classifier
    model: {model!r}
    adaptation: full
    resources: multi-gpu
    gpus: 2
    training: {{epochs: 60, batch_size: 4}}
intervals: {{resamples: 100}}
"""
SPLIT = {"03": "train", "08": "train", "09": "dev", "10": "test"}
EMOTIONS = {"W": "anger", "N": "neutral", "T": "sadness"}
WORDS = {"anger": "we hate it", "neutral": "a day", "sadness": "we are awful"}
FOLD = "results/words/seed-1/systems/text/fold-0"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A study whose one network is trained on two GPUs."""
    corpus = write_small_emodb(tmp_path / "tones", tuple(SPLIT))
    files = sorted(corpus.glob("wav/*.wav"))
    table = pd.DataFrame(
        {
            "path": [file.relative_to(corpus).as_posix() for file in files],
            "emotion": [EMOTIONS[file.stem[5]] for file in files],
            "speaker": [file.stem[:2] for file in files],
            "split": [SPLIT[file.stem[:2]] for file in files],
        }
    )
    table.assign(text=table["emotion"].map(WORDS)).to_csv(corpus / "utterances.csv", index=False)
    folder = copy_workflow(tmp_path / "clone")
    model = str(tiny_models.llama(tmp_path / "llama"))
    study = STUDY.format(model=model)
    (folder / "studies/words.yaml").write_text(study, encoding="utf-8")
    (folder / "config.yaml").write_text(
        f"studies: [words]\npaths: {{tones: {str(corpus)!r}}}\n", encoding="utf-8"
    )
    return folder


def test_a_fold_is_one_job_that_a_preemption_does_not_throw_back(folder):
    """Both processes are told, save one step, and leave the retry one checkpoint."""
    arguments = ["--cores", "2", "--retries", "1", FOLD]
    run = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    tell_the_job(run, folder)
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert "Preempted: received SIGTERM; saved step" in said, said
    facts = json.loads((folder / FOLD / "facts.json").read_text())
    assert facts["processes"] == 2
    assert facts["resumed_at_step"] > 0
    assert len(facts["loss_history"]) == 60
    rows = read_posteriors(folder / FOLD / "posteriors.parquet").rows
    assert rows["utterance_id"].is_unique
    assert set(rows["role"]) == {"dev", "test"}
    # Nothing is left: neither checkpoints nor the tries of others to write.
    parts = {item.name for item in (folder / FOLD).parent.iterdir()}
    assert parts - {"checkpoints"} == {"fold-0"}
    assert not list((folder / FOLD).parent.glob("checkpoints/*"))
    log = (folder / "results/words/logs/train_fold/text-seed-1-fold-0.log").read_text()
    assert log.count("epoch 60.0/60: 100%") == 1
    assert "Nothing to be done" in snakemake(folder, "--cores", "2", FOLD).stdout


def tell_the_job(run: subprocess.Popen, folder: Path) -> None:
    """Send SIGTERM to the script of the fold, not to its processes, once it has a checkpoint."""
    checkpoints = (folder / FOLD).parent / "checkpoints"
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob("*/checkpoint-*/sealed.json")):
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = (status.parent / "cmdline").read_text()
            parent = status.read_text().split("PPid:")[1].split()[0]
        except OSError:
            continue
        if f"{folder}/.snakemake/scripts/" in command:
            children[int(status.parent.name)] = int(parent)
    (script,) = [pid for pid, parent in children.items() if parent not in children]
    assert len(children) >= 3
    os.kill(script, signal.SIGTERM)
