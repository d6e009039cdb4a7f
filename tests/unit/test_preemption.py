"""Whoever is asked to end takes notice, in time and without harm to what is not to be stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs import ROOT
from serflow import preemption

SCRIPTS = ROOT / "workflow" / "scripts"


def start(code: str, **environment: str) -> subprocess.Popen:
    """Start Python, in which `say` prints a line at once; returns once it has said 'ready'."""
    head = "import os, time\nfrom serflow import preemption\nsay = lambda x: print(x, flush=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)} | environment,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_without_anything_to_save_sigterm_ends_a_job_and_sigusr1_does_not():
    process = start(
        "preemption.watch(); say('ready')\n"
        "while not preemption.asked(): time.sleep(0.01)\n"
        "say(preemption.asked()); time.sleep(60)"
    )
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() + process.stdout.readline() == "\nreceived SIGUSR1\n"
    assert process.stdout.readline() == "received SIGUSR1\n"
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == preemption.EXIT_CODE
    assert "Preempted: received SIGTERM; a retry or requeue goes on" in said


def test_what_is_to_be_saved_first_is_saved():
    process = start(
        "preemption.watch()\n"
        "with preemption.saving_later():\n"
        "    say('ready')\n"
        "    while not preemption.asked(): time.sleep(0.01)\n"
        "    say('saved')\n"
        "say('went on')"
    )
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert "saved" in said
    assert "went on" not in said
    assert process.returncode == preemption.EXIT_CODE


def test_the_time_limit_is_told_before_it_comes():
    """Signals do not reach the jobs of an array, and a job that is cut off loses an epoch."""
    code = (
        "preemption.watch(limit_minutes=0.1); say('ready')\n"
        "while not preemption.asked(): time.sleep(0.01)\n"
        "say(preemption.asked())"
    )
    begin = time.monotonic()
    said, _ = start(code, SLURM_JOB_ID="1").communicate(timeout=30)
    assert "the time limit of 0.1 min is near" in said
    assert time.monotonic() - begin < 6


def test_outside_of_a_batch_system_there_is_no_time_limit(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    process = start("preemption.watch(limit_minutes=0.001); say('ready'); time.sleep(1)")
    assert process.communicate(timeout=30) == ("", None)
    assert process.returncode == 0


LOADER = """
import signal, torch
from torch.utils.data import DataLoader
class Slow(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): time.sleep(0.3); return i
preemption.watch()
with preemption.saving_later():
    found = []
    for batch in DataLoader(Slow(), num_workers=2, worker_init_fn=preemption.keep_working):
        if not found: say('ready')
        found += batch.tolist()
    say(found)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_loader_workers_outlive_a_signal_to_the_whole_step(name):
    """PyTorch raises 'DataLoader worker is killed by signal' in the middle of a step otherwise."""
    process = start(LOADER)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    for pid in [*children, process.pid]:
        os.kill(int(pid), getattr(signal, name))
    said, _ = process.communicate(timeout=60)
    assert "[0, 1, 2, 3, 4, 5, 6, 7]" in said, said
    assert process.returncode == (preemption.EXIT_CODE if name == "SIGTERM" else 0)


SNAKEFILE = """
import sys
sys.path.insert(0, {scripts!r})

include: {signals!r}

rule all:
    output: "said"
    script: "say.py"
"""
SCRIPT = """
import time
from pathlib import Path
from serflow import preemption
preemption.watch()
with preemption.saving_later():
    Path("ready").touch()
    while not preemption.asked(): time.sleep(0.01)
    Path("heard").write_text(preemption.asked())
Path("said").touch()
"""


def run_in_job(folder: Path) -> subprocess.Popen:
    """Start Snakemake as it runs in a Slurm job; returns once its script is ready."""
    command = ["snakemake", "--cores", "1", "--mode", "subprocess", "--target-jobs", "all:"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"SLURM_JOB_ID": "1", "PYTHONPATH": str(SCRIPTS)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "ready").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_snakemake_passes_the_signals_of_a_step_on_to_its_script(name, tmp_path):
    """Slurm tells the first process of a step alone, which waits for its script or dies."""
    signals = ROOT / "workflow" / "rules" / "signals.smk"
    (tmp_path / "Snakefile").write_text(
        SNAKEFILE.format(signals=str(signals), scripts=str(SCRIPTS))
    )
    (tmp_path / "say.py").write_text(SCRIPT)
    process = run_in_job(tmp_path)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=60)
    assert (tmp_path / "heard").read_text() == f"received {name}", said
    assert (process.returncode == 0) == (name == "SIGUSR1"), said


def test_a_script_that_knows_no_warning_is_left_in_peace(tmp_path):
    """SIGUSR1 would end a transcription minutes before its time limit."""
    signals = ROOT / "workflow" / "rules" / "signals.smk"
    (tmp_path / "Snakefile").write_text(
        SNAKEFILE.format(signals=str(signals), scripts=str(SCRIPTS))
    )
    code = "from pathlib import Path\nimport time\nPath('ready').touch()\ntime.sleep(3)\nPath('said').touch()\n"
    (tmp_path / "say.py").write_text(code)
    process = run_in_job(tmp_path)
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
