"""What ships beside the profile, on a real Slurm: small workflows that would lose work without it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs import ROOT, copy_workflow

LAUNCHER = Path(__file__).with_name("fast_polling.py")
PROFILE = [
    "--profile",
    "slurm",
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--latency-wait",
    "5",
]

REFUSED = """
rule all:
    input: "bad.txt", "good.txt"
    default_target: True
rule train_fold:
    output: "bad.txt"
    log: "bad.log"
    resources: mem_mb=1000, runtime=5
    script: "refuse.py"
rule other:
    output: "good.txt"
    resources: mem_mb=1000, runtime=5
    shell: "echo $HF_HUB_OFFLINE > {output}"
"""
REFUSE = """
import sys
sys.path.insert(0, "workflow/scripts")
from serflow import job
from serflow.errors import UserError
def main(smk, settings):
    raise UserError("folds.parquet: utterance 'u7' has no label")
job.run(main, snakemake)
"""
ARRAY = """
rule all:
    input: expand("o/{i}.txt", i=range(5))
    default_target: True
rule train_fold:
    output: directory("o/{i}.txt")
    threads: 64  # a whole node of three: the last tasks start when the first are over
    resources: mem_mb=1000, runtime=5
    shell: "mkdir -p {output} && echo {wildcards.i} | tee -a ran > {output}/x"
"""
GPUS = """
import sys
sys.path.insert(0, "workflow/scripts")
from serflow.config.cluster import ClusterConfig

def asked(request, model, gpus):
    site = ClusterConfig(gpu={"request": request, "model": model, "partition": "main"})
    return {"mem_mb": 1000, "runtime": 5, "nodes": 1, **site.asks("multi-gpu", gpus)}

rule all:
    input: "gres.txt", "gpus.txt"
    default_target: True
rule train_fold:
    output: "gres.txt"
    resources: **asked("gres", "fake", 2)
    shell: "echo $CUDA_VISIBLE_DEVICES > {output}"
rule embed_fold:
    output: "gpus.txt"
    resources: **asked("gpus", "fake", 1)
    shell: "echo $CUDA_VISIBLE_DEVICES > {output}"
"""
LEFT = """
rule all:
    input: expand("o{i}.txt", i=range(2))
    default_target: True
rule train_fold:
    output: "o{i}.txt"
    resources: mem_mb=1000, runtime=5
    shell: "echo {wildcards.i} >> ran; sleep 15; echo done > {output}"
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the profile and the library, in a place with a blank."""
    folder = tmp_path / "a checkout"
    (folder / "workflow").mkdir(parents=True)
    for part in ("slurm", "profiles"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("site.yaml"))
    (folder / "workflow/scripts").symlink_to(ROOT / "workflow/scripts")
    return folder


def start(cluster, folder, snakefile, **files):
    (folder / "Snakefile").write_text(snakefile)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, LAUNCHER, *PROFILE], cwd=folder, env=cluster.environment(),
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def finish(run, folder, expected=0):
    try:
        code = run.wait(150)
    except subprocess.TimeoutExpired:
        run.kill()
        code = "it hangs"
    text = (folder / "log.txt").read_text(errors="replace")
    assert code == expected, text[-5000:]
    return text


def test_a_job_that_no_retry_can_help_is_submitted_once_and_ends_with_its_message(cluster, folder):
    text = finish(start(cluster, folder, REFUSED, refuse=REFUSE), folder, expected=1)
    assert sorted(job.comment for job in cluster.jobs(folder)) == ["rule_other", "rule_train_fold"]
    assert (
        text.count("not submitted again, as no retry can help: folds.parquet: utterance 'u7'") == 2
    )
    assert (folder / "good.txt").read_text() == "1\n", "the others go on, and look for no internet"


def test_gpus_arrive_in_both_spellings(cluster, folder):
    """A site takes one of the two; either way they must reach the job step, by model and number."""
    finish(start(cluster, folder, GPUS), folder)
    assert (folder / "gres.txt").read_text() == "0,1\n"
    assert (folder / "gpus.txt").read_text().strip() in ("0", "1")


def test_late_tasks_of_an_array_take_nothing_away_from_early_ones(cluster, folder):
    """As the plugin does it, every task deletes the first one's finished output."""
    (folder / "slurm/site.yaml").write_text("arrays: [train_fold]\n")
    text = finish(start(cluster, folder, ARRAY), folder)
    assert "Submitted array job" in text
    written = {path.parent.stem: path.read_text() for path in folder.glob("o/*/x")}
    assert written == {str(i): f"{i}\n" for i in range(5)}
    assert sorted((folder / "ran").read_text().split()) == list("01234"), "each ran once"


@pytest.mark.parametrize("how", ["wait", "cancel"])
def test_after_a_kill_what_still_runs_is_kept_or_cancelled(cluster, folder, how):
    run = start(cluster, folder, LEFT)
    deadline = time.monotonic() + 90
    while not (folder / "ran").exists() or len((folder / "ran").read_text().split()) < 2:
        assert time.monotonic() < deadline, (folder / "log.txt").read_text()
        time.sleep(0.2)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    done = subprocess.run(
        [sys.executable, "-m", "serflow.cluster.recover", how, *PROFILE[2:]], cwd=folder,
        env=cluster.environment() | {"PYTHONPATH": "workflow/scripts"}, timeout=200,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    # A job that is being cancelled is COMPLETING.
    assert re.search(r"2 jobs are left:\n.*train_fold_wildcards_\d  (RUNN|COMPLET)ING", done.stdout)
    states = sorted(job.state for job in cluster.jobs(folder))
    ran = sorted((folder / "ran").read_text().split())
    if how == "wait":
        assert ran == ["0", "1"], "nothing ran twice"
    else:
        assert ran == ["0", "0", "1", "1"]
        assert states == ["CANCELLED"] * 2 + ["COMPLETED"] * 2
    assert (folder / "o0.txt").read_text() == (folder / "o1.txt").read_text() == "done\n"


@pytest.mark.parametrize(
    ("site", "code", "message"),
    [
        ({}, 0, "kinds of jobs fit this cluster"),
        ({"SER_SLURM_PARTITION": "nowhere"}, 1, "there is no partition 'nowhere'"),
        ({"SER_SLURM_ACCOUNT": "nobody"}, 1, "account 'nobody' is not yours"),
        ({"SER_SLURM_QOS": "urgent"}, 1, "QOS 'urgent' is not allowed"),
        ({"SER_SLURM_CONSTRAINT": "nvlink"}, 1, "constraint 'nvlink'"),
    ],
)
def test_slurm_check_says_what_would_find_no_place(cluster, tmp_path, site, code, message):
    clone = copy_workflow(tmp_path / "clone")
    done = subprocess.run(
        [sys.executable, "-m", "serflow.cluster.check"], cwd=clone,
        env=cluster.environment() | {"PYTHONPATH": "workflow/scripts"} | site,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert message in done.stdout
