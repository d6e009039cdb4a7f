"""What Slurm's accounting knows of jobs: how long they queued and ran, and what they used."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

FIELDS = ("JobIDRaw", "Submit", "Start", "ElapsedRaw", "TotalCPU", "MaxRSS")
AT_ONCE = 500  # numbers of jobs in one query: a command line has an end


@dataclass(frozen=True)
class Account:
    """One job.

    Attributes
    ----------
    queued, elapsed, cpu_seconds : float
        Seconds; NaN: not known.
    memory : float
        Peak resident memory of its largest step, Snakemake's own processes included, in MiB; NaN:
        not known.
    """

    queued: float
    elapsed: float
    cpu_seconds: float
    memory: float


def accounts(jobs: Sequence[str]) -> dict[str, Account]:
    """Ask `sacct` about jobs.

    Parameters
    ----------
    jobs : sequence of str
        Slurm's numbers, raw ones for tasks of an array.

    Returns
    -------
    accounts : dict of str to Account
        Of those that it knows; none at all on a cluster without accounting, which is printed.
    """
    found: dict[str, Account] = {}
    for start in range(0, len(jobs), AT_ONCE):
        command = [
            "sacct",
            "--noheader",
            "--parsable2",
            "--units=M",
            f"--format={','.join(FIELDS)}",
        ]
        command.append(f"--jobs={','.join(jobs[start : start + AT_ONCE])}")
        try:
            answer = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
                env=os.environ | {"SLURM_TIME_FORMAT": "%s"},
            )
        except (OSError, subprocess.SubprocessError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip()
            print(f"Costs are told without queue times: sacct: {reason}", file=sys.stderr)
            return found
        found |= parsed(answer.stdout)
    return found


def parsed(text: str) -> dict[str, Account]:
    r"""Read what sacct prints: a line for each job, followed by its steps.

    Examples
    --------
    >>> found = parsed("7|100|130|60|00:50.500||\n7.batch|130|130|60|00:50.500|512.50M|\n")
    >>> found["7"]
    Account(queued=30.0, elapsed=60.0, cpu_seconds=50.5, memory=512.5)
    """
    found: dict[str, Account] = {}
    for line in text.splitlines():
        name, submitted, started, elapsed, cpu, memory, *_ = [*line.split("|"), *[""] * 6]
        job, step, _ = name.partition(".")
        if not step:
            found[job] = Account(
                queued=_number(started) - _number(submitted),
                elapsed=_number(elapsed),
                cpu_seconds=_clock(cpu),
                memory=math.nan,
            )
        elif job in found:
            peaks = (found[job].memory, _number(memory.rstrip("M")))
            known = [peak for peak in peaks if not math.isnan(peak)]
            found[job] = replace(found[job], memory=max(known, default=math.nan))
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "Unknown", "None" or nothing
        return math.nan


def _clock(text: str) -> float:
    """Seconds of [days-][hours:]minutes:seconds."""
    days, _, clock = text.rpartition("-")
    parts = [_number(part) for part in clock.split(":")]
    seconds = sum(part * 60**i for i, part in enumerate(reversed(parts)))
    return seconds + 86_400 * _number(days or "0")
