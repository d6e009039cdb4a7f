"""A fold on two GPUs through Snakemake, on CPU: one job, one log, one result, in its place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runs import snakemake
from serflow.posteriors import read_posteriors
from words_study import FOLD, make


def test_a_fold_is_one_job_that_a_preemption_does_not_throw_back(tmp_path):
    """Both processes are told, save one step, and leave the retry one checkpoint."""
    folder = make(tmp_path)
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
