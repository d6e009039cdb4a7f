"""Several processes of one job on one node: one log, one error, signals passed on, none left behind.

They get the environment that `accelerate launch` and torchrun give, so accelerate finds them joined.
Neither of those starts them, as both kill their processes 30 s after a SIGTERM, know no SIGUSR1, and
print the traceback of every process that the first failure takes along.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serflow import preemption
from serflow.errors import UserError
from serflow.job import WORKER_ERROR

# Where the processes meet: a file, as a port that is free now may be taken a moment later.
MEETING = "SERFLOW_MEETING"
POLL_S = 0.1
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# For processes whose peers have failed, or saved and left.
LEAVE_S = 60.0


def rank() -> int:
    """Number of this process among those of its job, from 0; 0 where there is one alone."""
    return int(os.environ.get("RANK", "0"))


def is_worker() -> bool:
    """Whether this is one of a job's several processes."""
    return MEETING in os.environ


def run(command: Sequence[str], processes: int, threads: int) -> None:
    """Run a command in several processes, and wait for them.

    What the first prints goes where this process prints; of the others, only the error counts.

    Parameters
    ----------
    command : sequence of str
    processes : int
    threads : int
        CPU threads of each.

    Raises
    ------
    Preempted
        They were asked to end, and did.
    UserError
        One raised it, or was killed.
    SystemExit
        One failed otherwise; what it said has been printed.
    """
    with tempfile.TemporaryDirectory(prefix="serflow-") as name:
        folder = Path(name)
        workers = []
        with _passing_on(workers):
            for number in range(processes):
                workers.append(_start(command, number, processes, threads, folder))
            try:
                failed = _wait(workers)
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()
        if failed is None:
            return
        _explain(failed, workers[failed].returncode, processes, folder)


def _start(
    command: Sequence[str], number: int, processes: int, threads: int, folder: Path
) -> subprocess.Popen:
    place = {
        "RANK": number,
        "LOCAL_RANK": number,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "OMP_NUM_THREADS": threads,
        # For whatever looks for them; nothing listens there.
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        MEETING: folder / "meeting",
        WORKER_ERROR: folder / f"error-{number}",
    }
    # One node: no network is needed, and a compute node's name may not even resolve.
    loopback = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    environment = loopback | os.environ | {key: str(value) for key, value in place.items()}
    if number == 0:
        return subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent)
    with (folder / f"output-{number}").open("wb") as output:
        return subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, preexec_fn=_die_with_parent
        )


def _die_with_parent() -> None:
    """Have Linux kill this process when the one that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _passing_on(workers: Sequence[subprocess.Popen]) -> Iterator[None]:
    def tell(number: int, frame: object) -> None:
        for worker in workers:
            worker.send_signal(number)

    before = {
        number: signal.signal(number, tell)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(workers: Sequence[subprocess.Popen]) -> int | None:
    """Number of the process that failed first; None: all have ended well."""
    while True:
        codes = [worker.poll() for worker in workers]
        failed = [i for i, code in enumerate(codes) if code not in (None, 0, preemption.EXIT_CODE)]
        left = [i for i, code in enumerate(codes) if code == preemption.EXIT_CODE]
        if failed:
            return failed[0]
        if left:
            _leave(workers)
            return left[0]
        if all(code == 0 for code in codes):
            return None
        time.sleep(POLL_S)


def _leave(workers: Sequence[subprocess.Popen]) -> None:
    """Give the others the time to end as well."""
    deadline = time.monotonic() + LEAVE_S
    while time.monotonic() < deadline and any(worker.poll() is None for worker in workers):
        time.sleep(POLL_S)


def _explain(number: int, code: int, processes: int, folder: Path) -> None:
    """Print the error that came first, and end."""
    if code == preemption.EXIT_CODE:
        sys.exit(code)  # the first process has said where a retry goes on
    # A process that loses its peer fails too, some moments later.
    errors = sorted(folder.glob("error-*"), key=lambda file: file.stat().st_mtime_ns)
    if errors:
        error = json.loads(errors[0].read_text(encoding="utf-8"))
        if error["mendable"]:
            raise UserError(error["said"])
        print(error["said"], file=sys.stderr, flush=True)
        sys.exit(1)
    who = f"process {number + 1} of {processes}, one for each GPU,"
    if code == -signal.SIGKILL:
        raise UserError(
            f"{who} was killed (SIGKILL): by the batch system, or for want of memory. Ask for more "
            "memory (`resources`), or lower training.batch_size"
        )
    output = folder / f"output-{number}"
    said = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    print(said[-10_000:], file=sys.stderr, flush=True)
    raise UserError(f"{who} ended with {code}; what it said is above")
