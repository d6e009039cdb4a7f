"""What a cluster does to jobs: after each fault the tables are those of a run without it.

Finished work is kept, and only what was lost runs again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import Cluster, Job
from faults_study import (
    FOLDS,
    TARGET,
    fold_of,
    half_done,
    jobs_of,
    run_locally,
    training_process,
    wait_until_training,
)
from packages import ClusterError
from slurm_runs import (
    SITE,
    before_in_path,
    differing,
    finish,
    of_rule,
    start,
    wait_for,
    wrap,
)


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """The study, run without Slurm."""
    return run_locally(tmp_path_factory.mktemp("local"))


@pytest.fixture
def folder(complete: Path, tmp_path: Path) -> Iterator[Path]:
    """A workflow folder in which one system is still to be trained."""
    folder = half_done(complete, tmp_path / "clone ü")
    finished = {fold: fold_of(folder, fold, "svm").stat().st_mtime_ns for fold in FOLDS}
    yield folder
    assert {fold: fold_of(folder, fold, "svm").stat().st_mtime_ns for fold in FOLDS} == finished


def check(cluster: Cluster, folder: Path, complete: Path) -> None:
    """The tables are right, nothing was done twice that was done, and no job or checkpoint is left."""
    assert differing(folder, complete, "faults") == []
    jobs = cluster.jobs(folder)
    assert len(of_rule(jobs, "train_fold_wildcards_faults_1_speech")) == len(jobs)
    assert not [job for job in jobs if job.state in ("PENDING", "RUNNING")]
    # Snakemake may end before Slurm has put the node of the last job in order.
    wait_for(
        lambda: all(job.state != "COMPLETING" for job in cluster.jobs(folder)), "the nodes' tidying"
    )
    assert not list(folder.glob("results/**/checkpoint-*"))


def resumed_at(folder: Path, fold: int) -> int | None:
    """The step at which the training that gave a fold's result took up an earlier one, if it did."""
    facts = json.loads((fold_of(folder, fold) / "facts.json").read_text(encoding="utf-8"))
    return facts["resumed_at_step"]


def states(cluster: Cluster, folder: Path, fold: int) -> list[str]:
    return [job.state for job in jobs_of(cluster, folder, fold)]


@contextmanager
def held(cluster: Cluster, *jobs: Job) -> Iterator[None]:
    """Inside, the training of some jobs stands still, so that the fault meets it on any machine."""
    pids = [training_process(cluster, job) for job in jobs]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_a_job_that_needs_more_memory_gets_it_at_the_next_attempt_with_a_gpu_each(
    cluster, folder, complete
):
    study = folder / "studies/faults.yaml"
    text = study.read_text(encoding="utf-8").replace("resources: cpu-small", "resources: gpu-small")
    study.write_text(text, encoding="utf-8")
    less = 'resources={"gpu-small": {"cpus": 1, "mem_mb": 150}}'
    finish(start(cluster, folder, *TARGET, less), folder)
    check(cluster, folder, complete)
    for fold in FOLDS:
        first, *others, last = jobs_of(cluster, folder, fold)
        # Polling, where there are no cgroups, says FAILED.
        assert {job.state for job in (first, *others)} <= {"OUT_OF_MEMORY", "FAILED"}
        assert last.state == "COMPLETED"
        # 400 MB of each are for Snakemake's own processes.
        asked = [job.memory for job in (first, *others, last)]
        assert asked == [f"{400 + 150 * attempt}M" for attempt in range(1, len(asked) + 1)]
        assert last.node == cluster.nodes[-1]
        assert "TresPerJob=gres:gpu:1" in cluster.run("scontrol", "show", "job", last.id)


@pytest.mark.parametrize("accounting", [True, False], ids=["sacct", "squeue"])
def test_a_cancelled_job_is_submitted_again_and_resumes(request, accounting, folder, complete):
    """By sacct's answers where there is accounting, and by squeue's where there is none."""
    cluster = request.getfixturevalue("cluster" if accounting else "cluster_without_accounting")
    run = start(cluster, folder, *TARGET)
    job = wait_until_training(cluster, folder, 0)
    with held(cluster, job):
        cluster.run("scancel", job.id)
    finish(run, folder)
    check(cluster, folder, complete)
    assert states(cluster, folder, 0) == ["CANCELLED", "COMPLETED"]
    assert states(cluster, folder, 1) == ["COMPLETED"]
    assert resumed_at(folder, 0) > 0


def test_jobs_that_hit_their_time_limit_resume_with_more_time(cluster, folder, complete):
    """One hangs until it is killed; one is slow, and saves before the limit comes."""
    limit = 'resources={"cpu-small": {"runtime": 1}}'
    run = start(cluster, folder, *TARGET, limit)
    begin = time.monotonic()
    hanging, slow = (wait_until_training(cluster, folder, fold) for fold in FOLDS)
    os.kill(training_process(cluster, hanging), signal.SIGSTOP)
    with held(cluster, slow):
        time.sleep(max(0, 48 - (time.monotonic() - begin)))
    finish(run, folder)
    check(cluster, folder, complete)
    assert states(cluster, folder, 0) == ["TIMEOUT", "COMPLETED"]
    assert states(cluster, folder, 1) == ["FAILED", "COMPLETED"]
    for fold in FOLDS:
        assert resumed_at(folder, fold) > 0


def test_a_requeued_job_starts_again_under_its_id_and_resumes(cluster, folder, complete):
    run = start(cluster, folder, *TARGET)
    job = wait_until_training(cluster, folder, 0)
    with held(cluster, job):
        # The profile submits with --no-requeue, so that Slurm itself never does this ...
        with pytest.raises(ClusterError, match="operation is presently disabled"):
            cluster.run("scontrol", "requeue", job.id)
        # ... and an administrator may do it all the same.
        cluster.run("scontrol", "update", f"JobId={job.id}", "Requeue=1")
        cluster.run("scontrol", "requeue", job.id)
    finish(run, folder)
    check(cluster, folder, complete)
    for fold in FOLDS:
        assert states(cluster, folder, fold) == ["COMPLETED"]
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", job.id)
    assert resumed_at(folder, 0) > 0


def test_after_an_interrupt_nothing_runs_on_and_a_rerun_resumes(
    cluster, folder, complete, tmp_path
):
    """Control-C, and in the middle of a status query, when the executor has its jobs set aside."""
    asking = tmp_path / "asking"
    wrap(
        tmp_path / "bin/sacct",
        f'case "$*" in *--name*) touch {asking}; sleep 2; rm {asking};; esac\n'
        f'exec {cluster.folder}/bin/sacct "$@"\n',
    )
    run = start(cluster, folder, *TARGET, PATH=before_in_path(tmp_path / "bin", cluster))
    with held(cluster, wait_until_training(cluster, folder, 0)):
        wait_for(lambda: states(cluster, folder, 1) == ["COMPLETED"], "the other fold")
        wait_for(lambda: not asking.exists(), "the end of a query")
        wait_for(asking.exists, "the next query")
        run.send_signal(signal.SIGINT)
        wait_for(lambda: states(cluster, folder, 0) != ["RUNNING"], "the cancellation")
    finish(run, folder, expected=1)
    wait_for(lambda: states(cluster, folder, 0) == ["CANCELLED"], "the job to end")
    finish(start(cluster, folder, *TARGET), folder)
    check(cluster, folder, complete)
    assert states(cluster, folder, 0) == ["CANCELLED", "COMPLETED"]
    assert states(cluster, folder, 1) == ["COMPLETED"]
    assert resumed_at(folder, 0) > 0


def test_jobs_outlive_a_killed_snakemake_and_what_they_make_is_kept(cluster, folder, complete):
    """kill -9, or a login node that restarts; then what `make slurm-recover` calls."""
    run = start(cluster, folder, *TARGET)
    with held(cluster, wait_until_training(cluster, folder, 0)):
        run.kill()
        run.wait()
    recovery = subprocess.run(
        [sys.executable, "-m", "serflow.cluster.recover", "wait", *SITE, *TARGET],
        cwd=folder, env={**cluster.environment(), "PYTHONPATH": "workflow/scripts"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert recovery.returncode == 0, recovery.stdout[-6000:]
    check(cluster, folder, complete)
    for fold in FOLDS:
        assert states(cluster, folder, fold) == ["COMPLETED"]
        assert resumed_at(folder, fold) is None


def test_a_controller_that_restarts_loses_no_job(cluster, folder, complete):
    run = start(cluster, folder, *TARGET)
    with held(cluster, wait_until_training(cluster, folder, 0)):
        cluster.stop_controller()
        time.sleep(15)  # several queries in vain; the other fold ends meanwhile
        assert not cluster.is_up()
        cluster.start_controller()
    finish(run, folder)
    check(cluster, folder, complete)
    for fold in FOLDS:
        assert states(cluster, folder, fold) == ["COMPLETED"]
        assert resumed_at(folder, fold) is None


def test_jobs_of_a_node_that_goes_down_run_again_there_too_once_it_is_back(
    cluster, folder, complete
):
    run = start(cluster, folder, *TARGET)
    job = wait_until_training(cluster, folder, 0)
    with held(cluster, job):
        hit = [
            fold
            for fold in FOLDS
            if (last := jobs_of(cluster, folder, fold)[-1]).node == job.node
            and last.state == "RUNNING"
        ]
        # Its slurmd lives, and brings the node back when it registers again: which node then gets the
        # jobs is for Slurm to say, and none is excluded for the rest of the run.
        cluster.run("scontrol", "update", f"NodeName={job.node}", "State=DOWN", "Reason=test")
    finish(run, folder)
    check(cluster, folder, complete)
    for fold in FOLDS:
        jobs = jobs_of(cluster, folder, fold)
        assert [j.state for j in jobs] == (["NODE_FAIL"] if fold in hit else []) + ["COMPLETED"]
    assert resumed_at(folder, 0) > 0


def test_results_that_appear_late_on_the_login_node_are_waited_for(
    cluster, folder, complete, tmp_path
):
    """A shared file system whose clients cache folders: for seconds after a job, no trace of it."""
    outputs = fold_of(folder, 0).parent
    wrap(
        tmp_path / "bin/srun",
        f'{cluster.folder}/bin/srun "$@"\ncode=$?\n'
        f"for made in '{outputs}'/fold-[01]; do\n"
        '  [ ! -d "$made" ] || mv "$made" "$made.not yet"\n'
        "done\nexit $code\n",
    )
    run = start(cluster, folder, *TARGET, PATH=before_in_path(tmp_path / "bin", cluster))
    late: dict[Path, float] = {}
    while run.poll() is None and len(late) < len(FOLDS) + 1:
        for hidden in outputs.glob("*.not yet"):
            since = late.setdefault(hidden, time.monotonic())
            if time.monotonic() - since > 8:
                hidden.rename(hidden.with_suffix(""))
        time.sleep(0.2)
    finish(run, folder)
    check(cluster, folder, complete)
    assert len(late) == len(FOLDS)
    for fold in FOLDS:
        assert states(cluster, folder, fold) == ["COMPLETED"]
