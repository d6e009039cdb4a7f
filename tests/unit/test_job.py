"""What surrounds a job: a failure that no retry can mend is final, any other is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
JOB = """
import sys
from types import SimpleNamespace
from serflow import job
from serflow.errors import UserError

def main(smk, settings):
    print("worked on it")
    {body}

smk = SimpleNamespace(rule="train_fold", log=["job.log"], params={{}}, config={{}}, resources={{}}, threads=1,
                      wildcards={{"study": "demo", "fold": "0"}})
job.run(main, smk)
"""


@pytest.fixture
def run(tmp_path):
    def once(body, **environment):
        done = subprocess.run(
            [sys.executable, "-c", JOB.format(body=body)], cwd=tmp_path, check=False,
            env={**os.environ, "PYTHONPATH": str(SCRIPTS), **environment},
        )  # fmt: skip
        return done.returncode, (tmp_path / "job.log").read_text()

    return once


def test_a_retry_of_a_refused_job_fails_at_once_with_the_same_message(run):
    refuse = "raise UserError('folds.parquet: u7 has no label')"
    code, log = run(refuse, SERFLOW_RUN="one")
    assert code == 1 and "worked on it" in log
    for body in (refuse, "pass"):
        code, log = run(body, SERFLOW_RUN="one")
        assert code == 1 and "worked on it" not in log
        assert "Error in train_fold: folds.parquet: u7 has no label" in log
    assert run("pass", SERFLOW_RUN="two")[0] == 0, "mended and started again"


def test_any_other_failure_is_tried_again(run):
    """A node that ran out of memory says nothing of the next one."""
    assert run("raise MemoryError", SERFLOW_RUN="one")[0] == 1
    assert run("pass", SERFLOW_RUN="one")[0] == 0


def test_on_ones_own_machine_nothing_is_marked(run, tmp_path, monkeypatch):
    monkeypatch.delenv("SERFLOW_RUN", raising=False)
    assert run("raise UserError('no')")[0] == 1
    assert run("pass")[0] == 0
    assert not (tmp_path / ".snakemake").exists()
