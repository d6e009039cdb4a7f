"""What became of each try of a job: when it ran, what it asked for, and under which Slurm job.

Snakemake's benchmark files tell of jobs that succeeded. What failed or was killed before has cost
as much, and only Slurm knows how long it queued; so every job leaves a line when it starts and one
when it ends, beside its log.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIX = ".attempts.jsonl"
ASKED = ("mem_mb", "runtime", "gpu")


@dataclass(frozen=True)
class Attempt:
    """One try of a job.

    Attributes
    ----------
    started : float
        Seconds since 1970.
    ended : float, optional
        None: it was killed, or still runs.
    succeeded : bool
    asked : mapping of str to int
        cpus; mem_mb, runtime (minutes) and gpu where the rule asks for them.
    slurm_job : str, optional
        Slurm's number of the job; None: it ran without Slurm.
    """

    started: float
    ended: float | None
    succeeded: bool
    asked: Mapping[str, int]
    slurm_job: str | None = None


@contextmanager
def recorded(log: Path, threads: int, resources: Mapping[str, Any]) -> Iterator[None]:
    """Append to the record of a job's attempts what happens inside.

    Parameters
    ----------
    log : Path
        The rule's log; the record lies beside it, named as `path_of` says.
    threads : int
    resources : mapping
        Snakemake's, of which `ASKED` are kept.
    """
    asked = {"cpus": threads} | {name: resources[name] for name in ASKED if name in resources}
    record = {"started": time.time(), "asked": asked, "slurm_job": os.environ.get("SLURM_JOB_ID")}
    _append(path_of(log), record)
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        ended = {"started": record["started"], "ended": time.time(), "succeeded": succeeded}
        _append(path_of(log), ended)


def path_of(log: Path) -> Path:
    """Where the attempts of the job with this log are recorded."""
    return log.with_name(log.stem + SUFFIX)


def latest(path: Path) -> list[Attempt]:
    """The attempts that the newest result took: those after the success before it.

    Parameters
    ----------
    path : Path
        As of `path_of`; a missing file holds none.

    Returns
    -------
    attempts : list of Attempt
        In the order of their starts. A line that a kill cut short is passed over.
    """
    found: dict[float, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        found.setdefault(event["started"], {}).update(event)
    attempts = [
        Attempt(
            started=event["started"],
            ended=event.get("ended"),
            succeeded=event.get("succeeded", False),
            asked=event["asked"],
            slurm_job=event["slurm_job"],
        )
        for event in found.values()
        if "asked" in event
    ]
    successes = [i for i, attempt in enumerate(attempts) if attempt.succeeded]
    return attempts[successes[-2] + 1 if len(successes) > 1 else 0 :]


def _append(path: Path, event: Mapping[str, Any]) -> None:
    # One write: lines of two jobs that a lost node made of one do not mix.
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")
