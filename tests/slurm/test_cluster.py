"""The private cluster itself: what it offers, and that it leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import cluster as cluster_module
import packages
from cluster import Cluster
from configuration import CGROUPS
from packages import ClusterError, ensure_installed


def wait_for(condition, seconds: float = 30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return found


def submit(cluster: Cluster, folder: Path, script: str, *options: str) -> str:
    """Run a script as a job; what it prints."""
    output = folder / f"{time.monotonic_ns()}.txt"
    script += f"; mv {output}.part {output}"
    cluster.run("sbatch", "-D", str(folder), "-o", f"{output}.part", *options, "--wrap", script)
    wait_for(output.exists)
    return output.read_text()


def listening(pids: list[int]) -> list[str]:
    """Local addresses, in hexadecimal, on which processes listen."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink()) if link.is_symlink() else ""
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            is_open = fields[3] == "0A" if table.startswith("tcp") else True
            if fields[9] in sockets and is_open:
                found.append(fields[1].split(":")[0])
    return found


def test_three_nodes_take_jobs_and_the_last_one_has_two_gpus(cluster, tmp_path):
    seen = submit(cluster, tmp_path, "srun env", "--gpus=2")
    assert "CUDA_VISIBLE_DEVICES=0,1" in seen
    assert f"SLURMD_NODENAME={cluster.nodes[2]}" in seen
    for node in cluster.nodes:
        assert f"SLURMD_NODENAME={node}" in submit(cluster, tmp_path, "env", "-w", node)
    with pytest.raises(ClusterError, match="Requested node configuration is not available"):
        cluster.run("sbatch", "--gpus=3", "--nodes=1", "--wrap", "true")


def test_accounting_knows_what_a_job_asked_for_and_what_became_of_it(cluster, tmp_path):
    cluster.run("sbatch", "-D", str(tmp_path), "--mem=321", "--comment", "of this test", "--wrap", "exit 3")  # fmt: skip
    job = wait_for(lambda: [j for j in cluster.jobs(tmp_path) if j.state == "FAILED"])[0]
    assert (job.comment, job.memory) == ("of this test", "321M")

    def booked() -> str:
        return cluster.run("sacct", "-X", "-n", "-P", "-j", job.id, "-o", "State,ExitCode,ReqMem")

    wait_for(lambda: booked().strip() == "FAILED|3:0|321M")


def test_a_job_that_takes_more_memory_than_it_asked_for_is_stopped(cluster, tmp_path):
    """Or no test of a retry with more memory would test anything."""
    cluster.run(
        "sbatch", "-D", str(tmp_path), "--mem=60", "--wrap",
        f"{sys.executable} -c 'import time; x = bytearray(200_000_000); time.sleep(20)'",
    )  # fmt: skip
    job = wait_for(lambda: [j for j in cluster.jobs(tmp_path) if j.state not in ("PENDING", "RUNNING")])  # fmt: skip
    assert job[0].state in ("OUT_OF_MEMORY", "FAILED")


def test_all_of_it_listens_on_the_loopback_alone(cluster):
    """A scheduler that runs jobs as root must not be reachable from outside."""
    addresses = listening(cluster.processes())
    assert len(addresses) >= 5
    assert set(addresses) == {"0100007F"}


def test_it_stops_within_seconds_and_leaves_nothing_behind(tmp_path):
    """Daemons, detached steps and jobs, cgroups, files, links under /etc."""
    before = sorted(Path("/etc").glob("slurm/*"))
    folder = Path(tempfile.mkdtemp(prefix="serflow-slurm-"))
    start = time.monotonic()
    with Cluster(folder, accounting=False) as cluster:
        assert time.monotonic() - start < 30
        # A process that leaves its job's session, as a daemon does.
        cluster.run("sbatch", "-D", str(tmp_path), "--wrap", "setsid sleep 1000 & srun sleep 1000")
        wait_for(lambda: [j for j in cluster.jobs(tmp_path) if j.state == "RUNNING"])

        def names() -> list[str]:
            return [Path(f"/proc/{p}/comm").read_text().strip() for p in cluster.processes()]

        wait_for(lambda: names().count("sleep") == 2)
        # slurmctld, its slurmscriptd, three slurmd, two steps.
        assert sum(name.startswith("slurm") for name in names()) >= 7, names()
        pids, nodes = cluster.processes(), cluster.nodes
        stop = time.monotonic()
    assert time.monotonic() - stop < 30
    assert cluster.processes() == []
    assert not [p for p in pids if Path(f"/proc/{p}/exe").exists()]
    assert not [c for n in nodes for c in CGROUPS.glob(f"*/slurm_{n}")]
    assert not folder.exists()
    assert sorted(Path("/etc").glob("slurm/*")) == before


def test_two_clusters_run_beside_each_other_and_one_without_accounting_has_no_sacct(
    cluster, cluster_without_accounting
):
    other = cluster_without_accounting
    assert not set(other.nodes) & set(cluster.nodes)
    assert not set(other.processes()) & set(cluster.processes())
    for one in (cluster, other):
        assert one.run("sinfo", "-h", "-o", "%T", "-p", "main").split() == ["idle"]
    with pytest.raises(ClusterError, match="accounting storage is disabled"):
        other.run("sacct")


def test_a_start_that_fails_shows_the_daemons_words_and_stops_what_was_started(monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="serflow-slurm-"))
    cluster = Cluster(folder, accounting=False)
    monkeypatch.setattr(Cluster, "start_node", lambda self, node: None)
    monkeypatch.setattr(Cluster, "_all_idle", lambda self: False)
    monkeypatch.setattr(cluster_module, "START_S", 1)
    with pytest.raises(ClusterError, match=r"until all nodes are idle(.|\n)*== slurmctld.log"):
        cluster.start()
    assert cluster.processes() == []
    assert not folder.exists()


def test_a_folder_in_use_is_refused_and_stays_as_it_is(cluster):
    """A second start in the folder of a running cluster must not stop that one."""
    with pytest.raises(ClusterError, match="is not empty"):
        Cluster(cluster.folder).start()
    assert cluster.is_up()


def test_by_hand_it_is_started_and_stopped_by_two_commands():
    folder = Path(tempfile.mkdtemp(prefix="serflow-slurm-"))
    command = [sys.executable, cluster_module.__file__]
    shown = subprocess.run(
        [*command, "start", folder, "--no-accounting"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"export PATH={folder}/bin:$PATH\n"
    assert "idle" in subprocess.run([folder / "bin/sinfo"], capture_output=True, text=True).stdout
    subprocess.run([*command, "stop", folder], check=True)
    assert Cluster(folder).processes() == []
    assert not folder.exists()


def test_other_users_and_other_systems_are_told_what_is_needed(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="needs root, and this is user 1000"):
        ensure_installed()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "SBIN", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match=r"slurmctld.* are missing, and there is no apt-get"):
        ensure_installed()


def test_packages_are_installed_where_they_lack_and_their_services_do_not_start(
    monkeypatch, tmp_path
):
    """With an apt-get that only notes what it was asked and whether services may start."""
    policy = tmp_path / "policy-rc.d"
    (tmp_path / "apt-get").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{policy} || echo denied >> {tmp_path}/asked\n'
    )
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setattr(packages, "SBIN", "/nowhere")
    monkeypatch.setattr(packages, "POLICY", policy)
    monkeypatch.setenv("PATH", str(tmp_path))
    ensure_installed()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0].endswith("update")
    assert asked[1] == asked[3] == "denied"
    assert asked[2].endswith("slurm-wlm slurmdbd munge mariadb-server")
    assert not policy.exists()
