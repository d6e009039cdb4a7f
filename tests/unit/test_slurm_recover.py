"""After Snakemake was killed: its jobs are found, and nobody else's are touched."""

from __future__ import annotations

import os

import pytest

from serflow.cluster import recover
from serflow.cluster.recover import Job, parse_jobs, running, wait
from serflow.errors import UserError

# Recorded: squeue 22.05.8 with FORMAT, folders aside; another folder's job, a shell's, an array's.
QUEUE = """\
11|RUNNING|1:12|None|rule_train_fold_wildcards_demo_1_speech_0|{here}
12|PENDING|0:00|Resources|rule_pack_audio_wildcards_demo|{here}
13|RUNNING|9:12|None|rule_train_fold_wildcards_demo_1_text_0|/elsewhere/serflow
14|RUNNING|3:00|None|(null)|{here}
15_2|PENDING|0:00|ReqNodeNotAvail, UnavailableNodes:n3|rule_train_fold_wildcards_demo_1_speech_1|{here}
"""


def test_jobs_of_this_folder_alone_are_orphans(tmp_path):
    """Cancelling by user name would take a colleague's run, or one's own other study, with it."""
    folder = tmp_path / "ein Ordner, größer"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(folder)
    text = QUEUE.format(here=folder)
    assert [job.id for job in parse_jobs(text, folder)] == ["11", "12", "15_2"]
    assert parse_jobs(text, link) == parse_jobs(text, folder)
    assert parse_jobs(text, tmp_path) == []


def test_a_job_that_waits_says_why(tmp_path):
    """A GPU that is drained or was never there: Snakemake shows nothing, for ever."""
    lines = [str(job) for job in parse_jobs(QUEUE.format(here=tmp_path), tmp_path)]
    assert "waits: ReqNodeNotAvail, UnavailableNodes:n3" in lines[2]
    assert "train_fold_wildcards_demo_1_speech_0  RUNNING for 1:12" in lines[0]


def process(root, number, cwd, *words):
    folder = root / str(number)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
    (folder / "cwd").symlink_to(cwd)


def test_a_snakemake_that_lives_is_found_and_its_jobs_are_not_taken_for_it(tmp_path):
    here, proc = tmp_path / "here", tmp_path / "proc"
    here.mkdir()
    process(proc, 7, here, "/venv/bin/python", "/venv/bin/snakemake", "--profile", "slurm")
    process(proc, 8, here, "python", "-m", "snakemake", "--target-jobs", "a:", "--mode", "remote")
    process(proc, 9, tmp_path, "python", "-m", "snakemake")
    process(proc, 10, here, "vim", "Snakefile")
    (proc / "11").mkdir()
    assert running(here, proc) == [7]


def test_waiting_ends_with_the_last_job_and_tells_of_changes_alone():
    job = Job("11", "RUNNING", "1:00", "None", "rule_a")
    answers = iter([[job], [job], []])
    told = list(wait("folder", lambda folder: next(answers), lambda seconds: None))
    assert told == ["1 jobs are left:\n  11  a  RUNNING for 1:00", "no jobs are left"]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands that say what they were asked; one job that scancel ends."""
    tools = tmp_path / "tools"
    tools.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    queue = tmp_path / "queue"
    queue.write_text(
        f"11|RUNNING|1:12|None|rule_a|{here}\n12|RUNNING|1:12|None|rule_a|/elsewhere\n"
    )
    for name, body in {
        "squeue": f"cat {queue}",
        "scancel": f'echo "$@" >> {tmp_path}/cancelled; sed -i "/^$1|/d" {queue}',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    calls = []

    def called(command, cwd, check):
        calls.append(command[3:])
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(
        recover.subprocess, "run", _unless_snakemake(recover.subprocess.run, called)
    )
    return here, tmp_path, calls


def _unless_snakemake(real, fake):
    return lambda command, **options: (
        fake(command, **options) if "snakemake" in command else real(command, **options)
    )


def test_cancelling_takes_this_folders_jobs_then_unlocks_then_runs_again(slurm):
    here, folder, calls = slurm
    assert recover.main(here, "cancel", ["--config", "studies=[demo]"]) == 0
    assert (folder / "cancelled").read_text() == "11\n"
    assert calls == [
        ["--unlock"],
        ["--profile", "slurm", "--rerun-incomplete", "--config", "studies=[demo]"],
    ]


def test_listing_changes_nothing(slurm, capsys):
    here, folder, calls = slurm
    assert recover.main(here, "list", []) == 0
    assert "11  a  RUNNING" in capsys.readouterr().out
    assert calls == [] and not (folder / "cancelled").exists()


def test_a_run_that_still_goes_on_is_left_alone(slurm, monkeypatch):
    """Unlocked under its feet, two Snakemakes would write the same files."""
    here, folder, calls = slurm
    monkeypatch.setattr(recover, "running", lambda folder: [4711])
    with pytest.raises(UserError, match="still runs here, as process 4711"):
        recover.main(here, "cancel", [])
    assert calls == [] and not (folder / "cancelled").exists()


def test_a_word_that_it_does_not_know_is_refused(slurm):
    with pytest.raises(UserError, match="HOW is 'kill'; expected wait, cancel or list"):
        recover.main(slurm[0], "kill", [])
