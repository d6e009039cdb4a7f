"""A private Slurm cluster on this machine: three virtual nodes, two fake GPUs, loopback only.

Everything is started here and in one folder, without systemd and without /etc/slurm, so that
several clusters fit beside each other and beside a real one. Needs root on Debian or Ubuntu.
By hand: `python tests/slurm/cluster.py start FOLDER`, `... stop FOLDER`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configuration import (
    CGROUPS,
    GPUS,
    cgroup_conf,
    cgroups_usable,
    munge_socket,
    slurm_conf,
    slurmdbd_conf,
)
from packages import SBIN, ClusterError, ensure_installed

CLIENTS = ["sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun"]
# In the environment of every process of a cluster, jobs included: slurmd detaches its steps, so
# that neither parents nor sessions tell what is whose.
MARK = "SERFLOW_SLURM_CLUSTER"
START_S = 60  # the longest wait for a daemon


@dataclass(frozen=True)
class Job:
    """What Slurm says of a job.

    Attributes
    ----------
    id : str
    state : str
        RUNNING, COMPLETED, CANCELLED, ...
    comment : str
        The executor's: `rule_train_fold_wildcards_...`.
    memory : str
        Asked for, as `16000M`.
    node : str
        Where it runs or ran; empty while it waits.
    """

    id: str
    state: str
    comment: str
    memory: str
    node: str


class Cluster:
    """A cluster in a folder of its own; `with Cluster(folder) as cluster:` starts and stops it.

    Parameters
    ----------
    folder : Path
        Made by `start`, removed by `stop`. Short and plain: it goes into slurm.conf, and sockets
        have at most 107 characters.
    accounting : bool
        With slurmdbd and MariaDB, so that `sacct` answers; without, `squeue` alone does.
    """

    def __init__(self, folder: Path, accounting: bool = True):
        self.folder = folder.absolute()
        self.accounting = accounting
        self._children: list[subprocess.Popen] = []
        self._ports: list[int] = []

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def configuration(self) -> Path:
        """Its slurm.conf."""
        return self.folder / "etc/slurm.conf"

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes; the last one has the GPUs."""
        # With a port, since cgroups are named after nodes and must be this cluster's alone.
        return [f"p{self._ports[0]}n{i}" for i in (1, 2, 3)]

    def environment(self) -> dict[str, str]:
        """The environment of a user of this cluster."""
        # SLURM_CONF is not part of it: Snakemake's job step takes all SLURM_* from its `srun`.
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))
        }
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", ""), SBIN])
        return {**clean, "PATH": path, MARK: str(self.folder)}

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands; what it prints."""
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=60
        )
        if check and done.returncode:
            raise ClusterError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
        return done.stdout

    def jobs(self, workdir: Path) -> list[Job]:
        """Jobs that were submitted from a folder, finished ones included, in order."""
        listing = self.run("squeue", "-h", "--states=all", "--sort=i", "-o", "%i|%T|%k|%m|%N|%Z")
        rows = [line.split("|", 5) for line in listing.splitlines()]
        return [Job(*row[:5]) for row in rows if row[5] == str(workdir)]

    def start(self) -> None:
        """Start all daemons and wait until every node takes jobs; all or nothing."""
        ensure_installed()
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ClusterError(f"{self.folder} is not empty; give a folder that does not exist yet")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Cancel all jobs, stop every process of the cluster, and remove its folder."""
        if self.is_up():
            self.run("scancel", "--user=root", check=False)
            _patiently(15, lambda: not self.run("squeue", "-h", check=False).strip())
        for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
            for pid_file in (self.folder / "run").glob(f"{name}*.pid"):
                self._stop(pid_file.stem)
        for pid in self.processes():
            _signal(pid, signal.SIGKILL)
        if not _patiently(10, lambda: not self.processes()):
            raise ClusterError(f"processes of {self.folder} outlive SIGKILL: {self.processes()}")
        for child in self._children:
            child.wait()
        for cgroup in CGROUPS.glob(f"*/slurm_p{self._port_of_controller()}n*"):
            _remove_cgroup(cgroup)
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """All other processes of this cluster: daemons, steps, jobs, and its users' commands."""
        pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
        return [pid for pid in pids if pid != os.getpid() and self._owns(pid)]

    def is_up(self) -> bool:
        """Whether the controller answers."""
        if not self.configuration.exists():
            return False
        return "is UP" in self.run("scontrol", "ping", check=False)

    def start_controller(self) -> None:
        """Start slurmctld; it takes up the jobs that it knew."""
        self._spawn("slurmctld", "slurmctld", "-D", "-f", str(self.configuration))
        self._wait("slurmctld answers", self.is_up)

    def stop_controller(self) -> None:
        """Stop slurmctld; jobs run on."""
        self._stop("slurmctld")

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node."""
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        self._spawn(f"slurmd.{node}", "slurmd", "-D", "-N", node, "-f", str(self.configuration))

    def _start(self) -> None:
        for part in ("etc", "bin", "run", "log", "state", "spool", "dev"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._ports = _free_ports(5)
        self._write_clients()
        self._write_configuration()
        self._start_munge()
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self._wait("all nodes are idle", self._all_idle)

    def _all_idle(self) -> bool:
        return self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * 3

    def _start_munge(self) -> None:
        key = self.folder / "etc/munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        socket_path = munge_socket(self.folder)
        # --force: folders below a /tmp that everyone writes to are not munge's taste.
        self._spawn(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}",
            f"--seed-file={self.folder}/state/munge.seed", f"--socket={socket_path}",
            f"--log-file={self.folder}/log/munge.log", f"--pid-file={self.folder}/run/munge",
        )  # fmt: skip
        self._wait("munged listens", socket_path.is_socket)

    def _start_accounting(self) -> None:
        data, database = self.folder / "db", self.folder / "run/mysql.socket"
        # A server that starts removes the temporary tables of all others from the one /tmp.
        own = self.folder / "tmp"
        own.mkdir(exist_ok=True)
        installed = subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}",
             "--skip-test-db", "--auth-root-authentication-method=socket"],
            env=self.environment() | {"TMPDIR": str(own)}, capture_output=True, text=True,
        )  # fmt: skip
        if installed.returncode:
            raise ClusterError(f"mariadb-install-db failed: {installed.stderr[-1000:]}")
        self._spawn(
            "mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}",
            "--skip-networking", f"--socket={database}", f"--pid-file={self.folder}/run/mariadb",
            "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M",
            "--innodb-lock-wait-timeout=900", "--skip-log-bin", f"--tmpdir={own}",
        )  # fmt: skip
        self._wait("mariadbd listens", database.is_socket)
        # MySQL's client library is told of the socket in no other way.
        self._spawn("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(database))
        self._wait("slurmdbd answers", lambda: self._sacctmgr("list", "cluster"))
        self._sacctmgr("add", "cluster", "private")
        self._sacctmgr("add", "account", "speech", "cluster=private")
        self._sacctmgr("add", "user", "root", "account=speech", "cluster=private")

    def _sacctmgr(self, *command: str) -> bool:
        done = subprocess.run(
            ["sacctmgr", "-n", "-i", *command], env=self.environment(), capture_output=True
        )
        return done.returncode == 0

    def _write_clients(self) -> None:
        """Slurm's commands, which know where this cluster is and come first in PATH."""
        for name in CLIENTS:
            client = self.folder / "bin" / name
            client.write_text(
                f"#!/bin/sh\nexport SLURM_CONF={self.configuration} {MARK}={self.folder}\n"
                f'exec /usr/bin/{name} "$@"\n'
            )
            client.chmod(0o755)

    def _write_configuration(self) -> None:
        etc, last = self.folder / "etc", self.nodes[-1]
        limits = cgroups_usable()
        self.configuration.write_text(
            slurm_conf(self.folder, self.nodes, self._ports, limits, self.accounting)
        )
        (etc / "cgroup.conf").write_text(cgroup_conf(limits))
        (etc / "gres.conf").write_text(
            f"NodeName={last} Name=gpu Type=fake File={self.folder}/dev/gpu[0-{GPUS - 1}]\n"
        )
        # A character device each, so that Slurm sets CUDA_VISIBLE_DEVICES; these are /dev/null.
        for i in range(GPUS):
            os.mknod(self.folder / f"dev/gpu{i}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        database = etc / "slurmdbd.conf"
        database.touch(mode=0o600)
        database.write_text(slurmdbd_conf(self.folder, self._ports[1]))

    def _spawn(self, name: str, *command: str, **environment: str) -> None:
        variables = {**self.environment(), "SLURM_CONF": str(self.configuration), **environment}
        with (self.folder / f"log/{name}.log").open("ab") as log:
            child = subprocess.Popen(
                command, cwd=self.folder / "spool", env=variables, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._children.append(child)
        (self.folder / f"run/{name}.pid").write_text(str(child.pid))

    def _stop(self, name: str) -> None:
        pid_file = self.folder / f"run/{name}.pid"
        pid = int(pid_file.read_text())
        if self._owns(pid):
            _signal(pid, signal.SIGTERM)
            if not _patiently(15, lambda: not self._owns(pid)):
                _signal(pid, signal.SIGKILL)
        pid_file.unlink()

    def _owns(self, pid: int) -> bool:
        """Whether a process lives (a zombie does not) and is this cluster's."""
        process = Path(f"/proc/{pid}")
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            # slurmstepd writes its title over its environment; it stays where slurmd was started.
            home = (process / "cwd").readlink()
        except OSError:
            return False
        return f"{MARK}={self.folder}".encode() in variables or home == self.folder / "spool"

    def _port_of_controller(self) -> int:
        if not self._ports and self.configuration.exists():
            text = self.configuration.read_text()
            self._ports = [int(text.split("SlurmctldPort=")[1].split()[0])]
        return self._ports[0] if self._ports else -1

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        if _patiently(START_S, condition):
            return
        tails = []
        for log in sorted((self.folder / "log").iterdir()):
            tails.append(f"== {log.name}\n" + log.read_text(errors="replace")[-1500:])
        raise ClusterError(f"waited {START_S} s in vain until {what}\n" + "\n".join(tails))


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _remove_cgroup(folder: Path) -> None:
    for below in folder.iterdir():
        if below.is_dir():
            _remove_cgroup(below)
    folder.rmdir()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _patiently(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main() -> None:
    """Start or stop a cluster by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["start", "stop"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-accounting", action="store_true", help="without slurmdbd")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.folder, not arguments.no_accounting)
    if arguments.command == "stop":
        cluster.stop()
        return
    try:
        cluster.start()
    except ClusterError as error:
        sys.exit(f"cluster: {error}")
    print(f"export PATH={cluster.folder}/bin:$PATH")


if __name__ == "__main__":
    main()
