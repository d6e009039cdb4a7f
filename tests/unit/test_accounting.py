"""What Slurm's accounting says, as it prints it; and clusters that keep none."""

from __future__ import annotations

import doctest
import math
import os

import pytest

from serflow import accounting
from serflow.accounting import AT_ONCE, accounts, parsed


def put_sacct(folder, monkeypatch, script):
    (folder / "sacct").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_the_largest_step_is_the_jobs_memory():
    text = "5|100|160|3600|01:00:01||\n5.batch|160|160|3600|01:00:01|20.5M|\n5.0|160|160|9|1-00:00:00|4096.25M|\n"
    job = parsed(text)["5"]
    assert (job.queued, job.elapsed, job.cpu_seconds, job.memory) == (60, 3600, 3601, 4096.25)


def test_a_job_that_never_started_has_no_queue_time_rather_than_a_wrong_one():
    job = parsed("6|100|Unknown|0|00:00:00||\n")["6"]
    assert math.isnan(job.queued)
    assert math.isnan(job.memory)


@pytest.mark.parametrize(
    ("clock", "seconds"), [("00:50.500", 50.5), ("02:00:00", 7200), ("3-01:00:00", 262800)]
)
def test_cpu_times_have_days_hours_or_thousandths(clock, seconds):
    assert parsed(f"1|0|0|0|{clock}||\n")["1"].cpu_seconds == seconds


def test_many_jobs_are_asked_about_in_parts(tmp_path, monkeypatch):
    """A command line has an end: 2,000 numbers in one would be refused by some systems."""
    put_sacct(
        tmp_path,
        monkeypatch,
        'for a in "$@"; do case $a in --jobs=*) for j in $(echo "${a#--jobs=}" | tr , " "); do '
        'echo "$j|0|1|2|00:01||"; done;; esac; done',
    )
    jobs = [str(n) for n in range(2 * AT_ONCE + 1)]
    assert list(accounts(jobs)) == jobs


@pytest.mark.parametrize(
    "script", ["echo 'Slurm accounting storage is disabled' >&2; exit 1", "exit 127"]
)
def test_a_cluster_without_accounting_is_said_and_stops_nothing(
    tmp_path, monkeypatch, capfd, script
):
    put_sacct(tmp_path, monkeypatch, script)
    assert accounts(["1"]) == {}
    assert "without queue times" in capfd.readouterr().err


def test_the_example_in_the_documentation_runs():
    assert doctest.testmod(accounting).failed == 0
