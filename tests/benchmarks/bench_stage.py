"""What the finished demo's posteriors cost until they are tables: every job right of the boundary again.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_stage.py [ROUNDS]

Needs `make demo`. The jobs run one after the other; the seconds are those inside of each job's script,
as it records them itself, without the start of Python, its imports and Snakemake, whose wall time for
all of these jobs is printed beside them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from runs import ROOT
from serflow.attempts import SUFFIX, latest

RULES = [
    "rebalance_posteriors", "calibrate_posteriors", "fuse_systems", "evaluate_study", "write_tables",
]  # fmt: skip
REPORT = "write_report"
DEMO = ["--cores", "1", "--config", "studies=[demo]"]


def snakemake(*arguments: str) -> tuple[float, str]:
    """Wall time and output of one run in this repository."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return time.perf_counter() - start, done.stdout


def seconds(logs: Path) -> Counter[str]:
    """Seconds inside of the scripts of each rule, of its newest jobs."""
    found: Counter[str] = Counter()
    for rule in [*RULES, REPORT]:
        for record in [*logs.glob(f"{rule}{SUFFIX}"), *logs.glob(f"{rule}/*{SUFFIX}")]:
            last = latest(record)[-1]
            found[rule] += last.ended - last.started
    return found


def main(rounds: int = 3) -> None:
    """Measure and print."""
    if "Nothing to be done" not in snakemake("-n", *DEMO)[1]:
        print("skipped: results/demo is not complete; run `make demo` first")
        return
    walls, runs = [], []
    for _ in range(rounds):
        walls.append(snakemake("--quiet", "all", "--forcerun", *RULES, REPORT, *DEMO)[0])
        runs.append(seconds(ROOT / "results/demo/logs"))
    for rule in [*RULES, REPORT]:
        print(f"{rule}: {statistics.median(run[rule] for run in runs):.2f} s")
    stage = statistics.median(sum(run[rule] for rule in RULES) for run in runs)
    print(f"from posteriors to tables: {stage:.2f} s, medians of {rounds} runs")
    print(
        f"with Snakemake, Python's starts, imports and the report: {statistics.median(walls):.1f} s"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
