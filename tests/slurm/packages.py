"""The Debian packages of a private Slurm cluster."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ["slurm-wlm", "slurmdbd", "munge", "mariadb-server"]
PROGRAMS = ["slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db"]
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
POLICY = Path("/usr/sbin/policy-rc.d")  # asked by Debian's packages whether services may start

LOCK = Path(tempfile.gettempdir()) / "serflow-slurm-packages.lock"


class ClusterError(Exception):
    """The cluster cannot be had, with the reason."""


def ensure_installed() -> None:
    """Install Slurm's Debian packages where they lack.

    Raises
    ------
    ClusterError
        Where this is not root, or not Debian, or the installation fails.
    """
    if os.geteuid() != 0:
        raise ClusterError(
            f"a private Slurm cluster needs root, and this is user {os.geteuid()}: run "
            "`make test-slurm` as root, for instance in a container"
        )
    # Processes of one test run come here at once: the first installs, the others wait for it.
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (missing := _missing()):
            return
        if not shutil.which("apt-get"):
            raise ClusterError(
                f"{', '.join(missing)} are missing, and there is no apt-get to install them: this "
                "test needs Debian or Ubuntu, or the equals of their packages "
                f"{', '.join(PACKAGES)}"
            )
        print(f"installing {' '.join(PACKAGES)} for {', '.join(missing)}", file=sys.stderr)
        _install()


def _missing() -> list[str]:
    places = os.pathsep.join([os.environ.get("PATH", ""), SBIN])
    return [name for name in PROGRAMS if not shutil.which(name, path=places)]


def _install() -> None:
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (
            ["apt-get", "-q", "update"],
            ["apt-get", "-q", "install", "--yes", "--no-install-recommends", *PACKAGES],
        ):
            done = subprocess.run(
                command, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if done.returncode:
                raise ClusterError(f"`{' '.join(command)}` failed:\n{done.stdout[-2000:]}")
    finally:
        if ours:
            POLICY.unlink()
