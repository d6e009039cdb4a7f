"""Run the real workflow on the private cluster, and read what it left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cluster import Cluster, Job

LAUNCHER = Path(__file__).with_name("fast_polling.py")
# What differs from a user's own `snakemake --profile slurm`: two cores bear no more jobs at once,
# and nobody wants to wait 20 s for the first status query.
SITE = ["--jobs", "4", "--slurm-init-seconds-before-status-checks", "1"]
RUN_S = 600  # a run that hangs fails the test, and not the whole of CI
Found = TypeVar("Found")


def start(cluster: Cluster, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """Start `snakemake --profile slurm` in a folder; its output is in `snakemake.log` there."""
    with (folder / "snakemake.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, LAUNCHER, "--profile", "slurm", *SITE, *arguments],
            cwd=folder, env={**cluster.environment(), "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def finish(run: subprocess.Popen, folder: Path, expected: int = 0) -> str:
    """Wait for a run to end; its output. The test fails where it does not end as expected."""
    try:
        code = run.wait(RUN_S)
    except subprocess.TimeoutExpired:
        run.kill()
        code = f"still running after {RUN_S} s"
    text = (folder / "snakemake.log").read_text(encoding="utf-8", errors="replace")
    assert code == expected, f"{code}, expected {expected}:\n{text[-6000:]}"
    return text


def wait_for(condition: Callable[[], Found], what: str, seconds: float = 90) -> Found:
    """What `condition` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.1)
    return found


def wrap(command: Path, script: str) -> None:
    """Write a command that stands before one of Slurm's."""
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{script}")
    command.chmod(0o755)


def before_in_path(folder: Path, cluster: Cluster) -> str:
    """The PATH in which the commands of a folder come before those of the cluster."""
    return os.pathsep.join([str(folder), cluster.environment()["PATH"]])


def of_rule(jobs: list[Job], rule: str) -> list[Job]:
    """The jobs of one rule, or of one that begins like this with its wildcards."""
    return [job for job in jobs if f"{job.comment}_".startswith(f"rule_{rule}_")]


def tables(folder: Path, study: str) -> dict[str, bytes]:
    """Every table of a study's results; two runs are equal when these are, byte for byte."""
    results = folder / "results" / study
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.suffix in (".parquet", ".csv")
    }


def differing(folder: Path, other: Path, study: str) -> list[str]:
    """Names of the tables that two runs do not share, byte for byte."""
    here, there = tables(folder, study), tables(other, study)
    assert here, f"{folder} has no results of {study}"
    return sorted(name for name in here | there if here.get(name) != there.get(name))
