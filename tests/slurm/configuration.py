"""The configuration files of a private cluster: what its nodes are, and what is stricter or faster."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
CPUS, MEMORY_MB, GPUS = 64, 500_000, 2  # declared, whatever the machine has; GPUs of the last node


def slurm_conf(
    folder: Path, nodes: Sequence[str], ports: Sequence[int], limits: bool, accounting: bool
) -> str:
    """slurm.conf of a cluster.

    Parameters
    ----------
    folder : Path
        Of the cluster.
    nodes : sequence of str
    ports : sequence of int
        Of slurmctld, of slurmdbd, and of each node's slurmd.
    limits : bool
        Whether cgroups track processes and limit memory.
    accounting : bool
        Whether jobs are booked by slurmdbd.
    """
    host = _host()
    lines = [
        "ClusterName=private",
        f"SlurmctldHost={host}(127.0.0.1)",
        "SlurmUser=root",
        "SlurmdUser=root",
        f"SlurmctldPort={ports[0]}",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        # A requeued job starts when its old credential is certain to have expired.
        f"AuthInfo=socket={munge_socket(folder)},cred_expire=10",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/run/slurmctld",
        f"SlurmdPidFile={folder}/run/%n",
        f"ProctrackType=proctrack/{'cgroup' if limits else 'linuxproc'}",
        f"TaskPlugin=task/{'cgroup' if limits else 'none'}",
        "MpiDefault=none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "GresTypes=gpu",
        "SlurmdParameters=config_overrides",
        "PropagateResourceLimits=NONE",
        "ReturnToService=2",
        # As most sites have it or longer; squeue forgets a finished job after this time.
        "MinJobAge=900",
        "KillWait=5",
        "CompleteWait=0",
        "InactiveLimit=0",
        "SlurmctldTimeout=20",
        "SlurmdTimeout=30",
        "SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=5",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=task=2",
    ]
    if not limits:  # the plugin that counts memory enforces it
        lines.append("JobAcctGatherParams=OverMemoryKill,UsePss")
    if accounting:
        lines += [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={ports[1]}",
            f"AccountingStoragePass={munge_socket(folder)}",  # AuthInfo does not reach slurmdbd
            "AccountingStorageTRES=gres/gpu",
            "AccountingStoreFlags=job_comment",
        ]
    for node, port in zip(nodes, ports[2:], strict=True):
        gres = f"Gres=gpu:fake:{GPUS}" if node == nodes[-1] else ""
        lines.append(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
            f"RealMemory={MEMORY_MB} {gres}"
        )
    times = "MaxTime=1-0 DefaultTime=10 DefMemPerCPU=100"
    lines.append(f"PartitionName=main Nodes={','.join(nodes)} Default=YES {times}")
    lines.append(f"PartitionName=gpu Nodes={nodes[-1]} {times}")
    return "\n".join(lines) + "\n"


def slurmdbd_conf(folder: Path, port: int) -> str:
    """slurmdbd.conf, for a MariaDB of the cluster's own."""
    return (
        f"AuthType=auth/munge\nAuthInfo=socket={munge_socket(folder)},cred_expire=10\n"
        f"DbdHost={_host()}\nDbdAddr=127.0.0.1\nDbdPort={port}\nSlurmUser=root\n"
        f"PidFile={folder}/run/slurmdbd\nStorageType=accounting_storage/mysql\n"
        "StorageHost=localhost\nStorageUser=root\nStorageLoc=accounting\n"
        "CommunicationParameters=NoInAddrAny\n"
    )


def cgroup_conf(limits: bool) -> str:
    """cgroup.conf: memory is limited by cgroups where they can be used."""
    if not limits:
        return "CgroupAutomount=no\n"
    return (
        "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n"
        "ConstrainRAMSpace=yes\nConstrainSwapSpace=yes\n"
    )


def cgroups_usable() -> bool:
    """Whether cgroups (version 1) can track processes and limit memory on this machine."""
    probe = f"serflow_probe_{os.getpid()}"
    for controller in ("freezer", "memory", "cpuset"):
        try:
            (CGROUPS / controller / probe).mkdir()
            (CGROUPS / controller / probe).rmdir()
        except OSError:
            return False
    return True


def munge_socket(folder: Path) -> Path:
    """Where the cluster's munged listens."""
    return folder / "run/munge.socket"


def _host() -> str:
    return socket.gethostname().split(".")[0]
