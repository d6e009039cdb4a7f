"""Notice ahead of the end: SIGTERM and SIGUSR1 ask a job to save what it has and to make room."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Of sysexits.h: a failure that is gone at another try.
EXIT_CODE = 75

_received: signal.Signals | None = None
_saving_later = False


class Preempted(SystemExit):
    """The job ends because it was asked to; its log says where a retry goes on.

    A SystemExit and no error: nothing on its way out may take it for one.
    """

    def __init__(self, message: str) -> None:
        print(f"\nPreempted: {message}", file=sys.stderr, flush=True)
        super().__init__(EXIT_CODE)


def watch() -> None:
    """Take notice of both signals from now on.

    SIGUSR1 is a warning: there is time left (`sbatch --signal=USR1@120`), so a job with nothing to
    save goes on as far as it gets. SIGTERM ends the job, at once where there is nothing to save.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _take_notice)


def received() -> str | None:
    """Name of the signal that asked the job to end; None: none has come."""
    return None if _received is None else _received.name


@contextmanager
def saving_later() -> Iterator[None]:
    """Inside, signals are only noted: whoever is inside looks at `received`, saves and leaves."""
    global _saving_later
    _saving_later = True
    try:
        yield
    finally:
        _saving_later = False
    if _received == signal.SIGTERM:
        raise Preempted("received SIGTERM after the training; a retry or requeue goes on from there")


def keep_working(worker: int = 0) -> None:
    """For loader workers: live on while the job saves, and obey none but the job itself.

    Slurm signals every process of a step, and a loader that lost a worker raises an error in the
    middle of the training. SIGTERM still ends a worker where its own parent sends it.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _take_notice(number: int, frame: FrameType | None) -> None:
    global _received
    name = signal.Signals(number).name
    if _received is None or number == signal.SIGTERM:
        _received = signal.Signals(number)
    if not _saving_later and number == signal.SIGTERM:
        raise Preempted(f"received {name}; a retry or requeue goes on from the last checkpoint")
    # Not print: the signal may have come in the middle of one.
    os.write(2, f"\nreceived {name}\n".encode())
