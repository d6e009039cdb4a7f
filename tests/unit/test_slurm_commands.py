"""`slurm/bin`: what the executor plugin makes of Slurm's answers, mended before it sees them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

BIN = Path(__file__).parents[2] / "slurm/bin"
RUN = "0f3c1d5e"
QUERY = ["-X", "--parsable2", "--clusters", "all", "--noheader", "--format=JobIdRaw,State",
         "--starttime", "2026-01-01T00:00", "--endtime", "now", "--name", RUN]  # fmt: skip

TOOLS = [
    "awk",
    "bash",
    "cat",
    "dirname",
    "env",
    "grep",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sh",
    "sha256sum",
    "touch",
]


@pytest.fixture
def cluster(tmp_path):
    """A folder of Slurm commands of our own, in PATH behind the wrappers."""

    # Not /usr/bin: this machine may have a Slurm of its own.
    (tmp_path / "tools").mkdir()
    for tool in TOOLS:
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool))

    class Cluster:
        environment = {"PATH": f"{BIN}:{tmp_path}/slurm commands:{tmp_path}/tools"}

        def command(self, name, body):
            file = tmp_path / "slurm commands" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/bash\n{body}\n")
            file.chmod(0o755)

        def run(self, *arguments, **environment):
            return subprocess.run(
                arguments, cwd=tmp_path, env=self.environment | environment,
                capture_output=True, text=True, check=False,
            )  # fmt: skip

        def answer(self, *arguments):
            return sorted(self.run(*arguments).stdout.splitlines())

    return Cluster()


def test_there_is_a_link_for_every_command_of_the_plugin():
    names = {path.name for path in BIN.iterdir()}
    assert names == {
        "slurm-command", "sbatch", "srun", "squeue", "sacct", "scancel", "scontrol", "sinfo",
        "sacctmgr", "sshare", "array_task.py",
    }  # fmt: skip
    for path in BIN.iterdir():
        assert os.access(path, os.X_OK) or path.suffix == ".py"


def test_a_cancelled_job_has_a_state_that_the_plugin_knows(cluster):
    """`CANCELLED by 0` is none: Snakemake waited for ever for a job that somebody had cancelled."""
    cluster.command("sacct", "printf '11|CANCELLED by 0\\n12|COMPLETED\\n13|CANCELLED by 10041\\n'")
    assert cluster.answer("sacct", *QUERY) == ["11|CANCELLED", "12|COMPLETED", "13|CANCELLED"]


def test_tasks_of_an_array_are_told_apart(cluster):
    """With JobIdRaw the plugin takes the state of one task for that of all."""
    cluster.command("sacct", 'printf "%s\\n" "$@"')
    asked = cluster.run("sacct", *QUERY).stdout.splitlines()
    assert "--format=JobID,State" in asked
    assert [x for x in asked if "JobID" not in x] == [x for x in QUERY if "JobIdRaw" not in x]


@pytest.mark.parametrize("node", ["None assigned", "gpu01"])
def test_no_node_is_excluded_for_the_rest_of_the_run(cluster, node):
    """`--exclude=None assigned,n1` fails every later submission (plugin issue 485); and where the
    node that failed is the only one with GPUs, its jobs would wait for ever once it is back."""
    cluster.command("sacct", f"echo '  {node}  '")
    assert cluster.answer("sacct", "-j", "7", "-n", "-X", "-o", "nodelist%-256") == []


def test_a_database_that_is_down_is_a_failed_query_and_no_answer(cluster):
    """The plugin asks again; an empty answer would make it think of jobs that are unknown."""
    cluster.command("sacct", "echo 'sacct: error: connection refused' >&2; exit 1")
    done = cluster.run("sacct", *QUERY)
    assert done.returncode == 1 and "refused" in done.stderr


@pytest.mark.parametrize("sacct", ["echo 'Slurm accounting storage is disabled' >&2; exit 1", None])
def test_without_accounting_squeue_answers(cluster, sacct):
    """Debian ships a sacct that knows nothing; the plugin asks it all the same (issues 38, 336)."""
    if sacct:
        cluster.command("sacct", sacct)
    cluster.command(
        "squeue", f"[[ $* == *'--name {RUN}'* ]] && printf '21|RUNNING\\n22|COMPLETED\\n'"
    )
    assert cluster.answer("sacct", *QUERY) == ["21|RUNNING", "22|COMPLETED"]
    assert cluster.answer("sacct", "-j", "7", "-n", "-X", "-o", "nodelist%-256") == []
    cluster.command("squeue", "exit 1")
    assert cluster.run("sacct", *QUERY).returncode == 1, "a controller that is away is asked again"


def test_a_job_that_left_the_queue_unseen_is_run_again(cluster):
    """MinJobAge of a minute and a query every three: the plugin would wait for ever."""
    cluster.command(
        "squeue", "printf '31|RUNNING\\n32|PENDING\\n33|COMPLETED\\n34_[2-9]|PENDING\\n'"
    )
    cluster.run("sacct", *QUERY)
    cluster.command("squeue", "printf '32|RUNNING\\n'")
    assert [cluster.answer("sacct", *QUERY) for _ in range(4)] == [
        ["32|RUNNING"], ["32|RUNNING"], ["31|FAILED", "32|RUNNING"], ["31|FAILED", "32|RUNNING"],
    ]  # fmt: skip
    cluster.command("squeue", "printf '31|COMPLETED\\n32|COMPLETED\\n'")
    assert cluster.answer("sacct", *QUERY) == ["31|COMPLETED", "32|COMPLETED"]
    cluster.command("squeue", ":")
    assert [cluster.answer("sacct", *QUERY) for _ in range(4)] == [[]] * 4, "ended jobs may go"


def test_slurms_configuration_survives_the_job_step(cluster):
    """The job step drops SLURM_CONF, and its srun finds no cluster (plugin issue 164)."""
    cluster.command("srun", 'echo "$SLURM_CONF"')
    own = {"SERFLOW_SLURM_CONF": "/opt/slurm.conf"}
    assert cluster.run("srun", "true", **own).stdout == "/opt/slurm.conf\n"
    given = cluster.run("srun", "true", SLURM_CONF="/mine.conf", **own)
    assert given.stdout == "/mine.conf\n"


def test_jobs_are_told_that_there_is_no_internet(cluster):
    cluster.command("sbatch", 'echo "$HF_HUB_OFFLINE$TRANSFORMERS_OFFLINE$HF_DATASETS_OFFLINE"')
    assert cluster.run("sbatch", "--wrap=true").stdout == "111\n"


def test_a_job_that_refused_its_data_is_not_submitted_again(cluster, tmp_path):
    """Two more waits in the queue would end with the same message."""
    cluster.command("sbatch", "echo 42")
    target = "train_fold:study=demo,seed=1,system=text,fold=0"
    call = ["sbatch", "-J", "x", f"--wrap=python --target-jobs '{target}' --attempt 2"]
    run = {"SERFLOW_RUN": RUN}
    assert cluster.run(*call, **run).stdout == "42\n"
    mark = (
        tmp_path / ".snakemake/serflow/refused" / RUN / hashlib.sha256(target.encode()).hexdigest()
    )
    mark.parent.mkdir(parents=True)
    mark.write_text("folds.parquet: utterance 'u7' has no label")
    done = cluster.run(*call, **run)
    assert done.returncode == 1 and "utterance 'u7' has no label" in done.stderr
    assert cluster.run(*call, SERFLOW_RUN="another").stdout == "42\n", "the next run tries again"
    array = cluster.run("sbatch", " --array=1-3", *call[1:], **run)
    assert array.stdout == "42\n", "one task must not hold back the others"


def packed(commands):
    """Commands of an array as the plugin hands them over: task -> command."""
    hexed = {str(task): zlib.compress(text.encode()).hex() for task, text in commands.items()}
    return base64.b64encode(json.dumps(hexed).encode()).decode()


def test_every_task_of_an_array_runs_its_own_command_alone(cluster, tmp_path):
    """In the plugin's way task 2 starts task 1's Snakemake first, and deletes its finished output."""
    first = f"'{sys.executable}' -m snakemake --target-jobs 'a:i=1'"
    others = packed({2: 'echo two of "$SLURM_ARRAY_TASK_ID"', 3: "echo drei größer"})
    # As Slurm does: the wrapped text is a shell script of the node.
    cluster.command(
        "sbatch", 'for x in "$@"; do [[ $x != --wrap=* ]] || sh -c "${x#--wrap=}"; done'
    )
    (tmp_path / "snakemake.py").write_text("import sys; print('one', *sys.argv[1:])")
    call = [
        "sbatch",
        "--parsable",
        "--array=1-3",
        f"--wrap={first} --slurm-jobstep-array-execs={others}",
    ]
    done = [
        cluster.run(*call, SLURM_ARRAY_TASK_ID=str(task), PYTHONPATH=str(tmp_path))
        for task in (1, 2, 3)
    ]
    assert [x.stdout for x in done] == [
        "one --target-jobs a:i=1\n", "two of 2\n", "drei größer\n",
    ], done  # fmt: skip


def test_an_array_whose_command_the_shell_has_cut_says_why(cluster):
    """Slurm itself says that script arguments are not permitted."""
    cluster.command("sbatch", "echo 42")
    command = """--wrap="python -m snakemake --config "resources={'gpu-large': {}}" --x=1" """
    done = cluster.run("bash", "-c", f"sbatch --parsable --array=1-3 {command}")
    assert done.returncode == 1 and "command of an array holds double quotes" in done.stderr


def test_a_job_that_is_no_array_is_submitted_as_it_is(cluster):
    cluster.command("sbatch", 'printf "%s\\n" "$@"')
    call = ["--parsable", "--wrap=python -m snakemake --target-jobs 'a:i=1'"]
    assert cluster.run("sbatch", *call).stdout.splitlines() == call


def test_the_wrappers_of_two_checkouts_do_not_call_each_other_for_ever(cluster, tmp_path):
    other = tmp_path / "other/slurm/bin"
    other.mkdir(parents=True)
    for path in BIN.iterdir():
        (other / path.name).symlink_to(path.resolve())
    cluster.command("sinfo", "echo up")
    environment = {"PATH": f"{other}:{cluster.environment['PATH']}"}
    assert cluster.run("sinfo", **environment).stdout == "up\n"


def test_a_command_that_the_machine_lacks_says_so(cluster):
    done = cluster.run("scontrol", "ping")
    assert done.returncode == 127 and "is this a machine of the cluster" in done.stderr
