"""`make slurm-recover`: go on after Snakemake itself was killed, and its Slurm jobs were not.

Jobs go on without it, and the folder stays locked; unlocked and started again, Snakemake would submit
beside those that still run. So: wait for them or cancel them, unlock, run again.

`python -m serflow.cluster.recover wait|cancel|list [ARGUMENT ...]`, in the repository; arguments are
for the new run of Snakemake, the same as those of the one that was killed.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from serflow.cluster.commands import ask
from serflow.errors import UserError

FORMAT = "%i|%T|%M|%r|%k|%Z"
POLL_S = 20
RERUN = ("--profile", "slurm", "--rerun-incomplete")


@dataclass(frozen=True)
class Job:
    """One Slurm job of this folder that is not over."""

    id: str
    state: str
    elapsed: str
    reason: str
    comment: str

    def __str__(self) -> str:
        """One line: what it is, and why it waits, where it does."""
        # squeue knows why a job waits (a drained node, a GPU that does not exist); Snakemake is silent.
        why = f"waits: {self.reason}" if self.state == "PENDING" else f"for {self.elapsed}"
        return f"  {self.id}  {self.comment.removeprefix('rule_')}  {self.state} {why}"


def parse_jobs(text: str, folder: Path) -> list[Job]:
    """The jobs of a folder among those that `squeue --format=FORMAT` prints.

    Parameters
    ----------
    text : str
    folder : Path
        Where Snakemake ran; symbolic links are followed.
    """
    found = []
    for line in text.splitlines():
        parts = line.split("|", 5)
        if len(parts) == 6 and parts[4].startswith(("rule_", "group_")):
            *job, place = parts
            if os.path.realpath(place) == os.path.realpath(folder):
                found.append(Job(*job))
    return found


def orphans(folder: Path) -> list[Job]:
    """Jobs of a folder that are not over."""
    user = getpass.getuser()
    text = ask("squeue", "--noheader", f"--user={user}", "--array", f"--format={FORMAT}")
    return parse_jobs(text, folder)


def running(folder: Path, processes: Path = Path("/proc")) -> list[int]:
    """Processes of this machine that are a Snakemake in charge of the folder."""
    found = []
    for process in processes.glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = os.path.realpath(process / "cwd") == os.path.realpath(folder)
        except OSError:
            continue  # over by now, or of somebody else
        called = any(Path(word).name == "snakemake" for word in words[:3])
        called = called or words[1:3] == ["-m", "snakemake"]
        # The processes of its jobs are told what they do, and hold no lock.
        if here and called and "--mode" not in words and "--target-jobs" not in words:
            found.append(int(process.name))
    return sorted(found)


def wait(
    folder: Path,
    jobs: Callable[[Path], list[Job]] = orphans,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Until the folder has no jobs; what to tell meanwhile."""
    before = None
    while found := jobs(folder):
        if found != before:
            yield f"{len(found)} jobs are left:\n" + "\n".join(map(str, found))
            before = found
        pause(POLL_S)
    yield "no jobs are left"


def main(folder: Path, how: str, arguments: list[str]) -> int:
    """List, wait for or cancel the folder's jobs, then unlock it and run again."""
    if how not in ("list", "wait", "cancel"):
        raise UserError(f"HOW is {how!r}; expected wait, cancel or list")
    found = orphans(folder)
    print(f"{len(found)} jobs of {folder.resolve()} are not over", flush=True)
    if how == "list":
        print(*found, sep="\n")
        return 0
    if alive := running(folder):
        raise UserError(
            f"Snakemake still runs here, as process {alive[0]} of {socket.gethostname()}: nothing is "
            "to be recovered. Stop it with one Ctrl-C, which cancels its jobs, or let it go on"
        )
    if found and how == "cancel":
        ask("scancel", *(job.id for job in found))
    for line in wait(folder):
        print(line, flush=True)
    snakemake = [sys.executable, "-m", "snakemake"]
    subprocess.run([*snakemake, "--unlock"], cwd=folder, check=True)
    return subprocess.run([*snakemake, *RERUN, *arguments], cwd=folder, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(Path(), (sys.argv[1:] or ["wait"])[0], sys.argv[2:]))
    except UserError as error:
        sys.exit(f"slurm-recover: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
