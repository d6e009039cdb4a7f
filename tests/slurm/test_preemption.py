"""A training job of two GPUs on a real Slurm: told to end, it loses no more than a step."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from words_study import FOLD, make

LAUNCHER = Path(__file__).with_name("fast_polling.py")
PROFILE = ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1"]
MACHINE = "resources: {multi-gpu: {cpus: 1, mem_mb: 1500, runtime: 5}}\n"


def test_a_warned_job_of_two_gpus_saves_and_its_retry_goes_on(cluster, tmp_path):
    """Slurm signals the first process of the step, which is neither the script nor its processes."""
    folder = make(tmp_path, machine=MACHINE)
    with (folder / "log.txt").open("wb") as log:
        run = subprocess.Popen(
            [sys.executable, LAUNCHER, *PROFILE, "--latency-wait", "5", FOLD],
            cwd=folder, env=cluster.environment(), stdout=log, stderr=log,
        )  # fmt: skip
    checkpoints = (folder / FOLD).parent / "checkpoints"
    deadline = time.monotonic() + 200
    while not list(checkpoints.glob("*/checkpoint-*/sealed.json")):
        assert run.poll() is None, (folder / "log.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (job,) = [x for x in cluster.jobs(folder) if x.state == "RUNNING" and "train" in x.comment]
    cluster.run("scancel", "--signal=USR1", job.id)
    assert run.wait(250) == 0, (folder / "log.txt").read_text()[-5000:]
    facts = json.loads((folder / FOLD / "facts.json").read_text())
    assert (facts["processes"], len(facts["loss_history"])) == (2, 60)
    assert facts["resumed_at_step"] > 0
    trained = [x for x in cluster.jobs(folder) if "train" in x.comment]
    assert sorted(x.state for x in trained) == ["COMPLETED", "FAILED"]
    assert not list(checkpoints.iterdir())
