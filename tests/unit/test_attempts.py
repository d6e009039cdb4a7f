"""The record of a job's attempts: what failed on the way to a result has cost as much."""

from __future__ import annotations

import pytest

from serflow.attempts import latest, path_of, recorded

RESOURCES = {"mem_mb": 8300, "runtime": 240, "gpu": 1, "tmpdir": "/scratch"}


def attempt(log, fails=False, resources=RESOURCES):
    with recorded(log, 4, resources):
        if fails:
            raise RuntimeError("out of memory")


def test_a_result_has_cost_the_attempts_since_the_result_before_it(tmp_path, monkeypatch):
    log = tmp_path / "train_fold" / "svm.log"
    log.parent.mkdir()
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    attempt(log)
    assert [a.succeeded for a in latest(path_of(log))] == [True]
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(RuntimeError):
        attempt(log, fails=True)
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    attempt(log, resources=RESOURCES | {"mem_mb": 16300})
    failed, succeeded = latest(path_of(log))
    assert (failed.succeeded, failed.slurm_job) == (False, "17")
    assert (succeeded.succeeded, succeeded.slurm_job) == (True, "18")
    assert failed.ended >= failed.started
    assert succeeded.asked == {"cpus": 4, "mem_mb": 16300, "runtime": 240, "gpu": 1}


def test_a_killed_attempt_has_no_end_and_a_line_that_a_kill_cut_short_hides_no_other(tmp_path):
    log = tmp_path / "a.log"
    attempt(log)
    whole = path_of(log).read_text(encoding="utf-8")
    start = whole.splitlines()[0].replace('"started": 1', '"started": 2')
    path_of(log).write_text(f'{start}\n{{"started": 3, "as\n{whole}', encoding="utf-8")
    killed, succeeded = latest(path_of(log))
    assert killed.ended is None
    assert not killed.succeeded
    assert succeeded.succeeded


def test_a_job_without_a_record_has_no_attempts(tmp_path):
    assert latest(path_of(tmp_path / "older.log")) == []
