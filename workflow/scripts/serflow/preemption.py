"""Notice ahead of the end: by a signal or a time limit, for a job to save what it has and to make room."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

# Of sysexits.h: a failure that is gone at another try.
EXIT_CODE = 75
# Before a time limit: enough for a step and a checkpoint; less where the whole limit is short.
MARGIN_S, MARGIN_SHARE = 120.0, 0.25

_asked: str | None = None
_at_once = False
_saving_later = False


class Preempted(SystemExit):
    """The job ends because it was asked to; its log says where a retry goes on.

    A SystemExit and no error: nothing on its way out may take it for one.
    """

    def __init__(self, message: str) -> None:
        print(f"\nPreempted: {message}", file=sys.stderr, flush=True)
        super().__init__(EXIT_CODE)


def watch(limit_minutes: float | None = None) -> None:
    """Take notice of SIGTERM, SIGUSR1 and a batch system's time limit from now on.

    SIGUSR1 and the time limit are warnings: there is time left, so a job with nothing to save goes
    on as far as it gets. SIGTERM ends the job, at once where there is nothing to save.

    Parameters
    ----------
    limit_minutes : float, optional
        What the job asked its batch system for. The clock is watched, as signals do not reach a
        job in every setting: Slurm signals the first process of a step alone, and those of a job
        array not at all.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _take_notice)
    if limit_minutes is None or "SLURM_JOB_ID" not in os.environ:
        return
    limit = 60.0 * limit_minutes
    notice = _started() + limit - min(MARGIN_S, MARGIN_SHARE * limit)
    reason = f"the time limit of {limit_minutes:g} min is near"
    timer = threading.Timer(max(0.0, notice - time.time()), _ask, [reason])
    timer.daemon = True
    timer.start()


def tell_scripts(number: int, folder: str) -> None:
    """Pass a signal on to the scripts below this process that have a handler of it.

    Parameters
    ----------
    number : int
    folder : str
        Part of the scripts' paths. The shell around a script is not told: without it, Snakemake takes
        the job for finished.
    """
    for process in psutil.Process().children(recursive=True):
        try:
            scripts = [word for word in process.cmdline()[:2] if f"/{folder}/" in word]
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            handled = int(status.split("SigCgt:")[1].split()[0], base=16)
            if scripts and handled >> (number - 1) & 1:
                process.send_signal(number)
        except (psutil.NoSuchProcess, OSError):
            continue  # it has ended


def asked() -> str | None:
    """Why the job is to end, 'received SIGTERM' for one; None: it is not."""
    return _asked


@contextmanager
def saving_later() -> Iterator[None]:
    """Inside, notice is only taken: whoever is inside looks at `asked`, saves and leaves."""
    global _saving_later
    _saving_later = True
    try:
        yield
    finally:
        _saving_later = False
    if _at_once:
        raise Preempted(f"{_asked} after the last epoch; a retry or requeue goes on from there")


def keep_working(worker: int = 0) -> None:
    """For loader workers: live on while the job saves, and obey none but the job itself.

    A loader that lost a worker to a signal raises an error in the middle of a step. SIGTERM still
    ends a worker where its own parent sends it.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _ask(reason: str) -> None:
    global _asked
    _asked = reason
    # Not print: a signal may come in the middle of one.
    os.write(2, f"\n{reason}\n".encode())


def _take_notice(number: int, frame: FrameType | None) -> None:
    global _at_once
    _ask(f"received {signal.Signals(number).name}")
    _at_once = _at_once or number == signal.SIGTERM
    if _at_once and not _saving_later:
        raise Preempted(f"{_asked}; a retry or requeue goes on from the last checkpoint")


def _started() -> float:
    """When Slurm started the step that this process belongs to, in seconds since the epoch."""
    own = psutil.Process()
    chain = [own, *own.parents()]
    names = [process.name() for process in chain]
    first = names.index("slurmstepd") - 1 if "slurmstepd" in names else 0
    return chain[first].create_time()
