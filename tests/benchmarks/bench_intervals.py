"""Bootstrap intervals of 30,000 utterances and 8 classes, against resampling the rows.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_intervals.py [RUNS]

10,000 resamples of macro-F1, on one core, with skewed classes and a system that is right about half of
the time; of utterances, of 1,000 speakers, of two systems in pairs, and all metrics of a table in turn, as the
evaluation asks for them. The plain way draws rows and scores them, by scikit-learn or by our own
confusion counts; a few resamples are timed and 10,000 projected. Wanted: below 1 s for the first two.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from serflow.intervals import bootstrap_interval, paired_bootstrap
from serflow.metrics import METRICS, confusion

N, C, SPEAKERS, RESAMPLES = 30_000, 8, 1_000, 10_000
SHARES = [0.40, 0.20, 0.12, 0.10, 0.08, 0.05, 0.03, 0.02]
PLAIN = 100  # resamples of the plain way


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time and CPU time of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def main(runs: int = 5) -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    reference = rng.choice(C, size=N, p=SHARES)
    first = np.where(rng.random(N) < 0.5, reference, rng.integers(C, size=N))
    second = np.where(rng.random(N) < 0.7, first, rng.integers(C, size=N))
    speakers = rng.integers(SPEAKERS, size=N)

    def ours(metric: str = "macro_f1", clusters: np.ndarray | None = None) -> object:
        return bootstrap_interval(
            reference, first, C, metric, seed=0, clusters=clusters, resamples=RESAMPLES
        )

    def pair(clusters: np.ndarray | None = None) -> object:
        return paired_bootstrap(
            reference, first, second, C, "macro_f1", seed=0, clusters=clusters, resamples=RESAMPLES
        )

    def plain(score: Callable[[np.ndarray], float]) -> None:
        values = [score(rng.integers(N, size=N)) for _ in range(PLAIN)]
        np.percentile(values, [2.5, 97.5])

    def by_counts(rows: np.ndarray) -> float:
        return METRICS["macro_f1"](confusion(reference[rows], first[rows], C))

    def by_scikit_learn(rows: np.ndarray) -> float:
        return f1_score(reference[rows], first[rows], average="macro")

    sides: dict[str, tuple[Callable[[], object], int]] = {
        "macro-F1, utterances": (ours, 1),
        "macro-F1, speakers": (lambda: ours(clusters=speakers), 1),
        "paired, utterances": (pair, 1),
        "paired, speakers": (lambda: pair(clusters=speakers), 1),
        f"all {len(METRICS)} metrics, utterances": (lambda: [ours(name) for name in METRICS], 1),
        "rows, our counts (projected)": (lambda: plain(by_counts), RESAMPLES // PLAIN),
        "rows, scikit-learn (projected)": (lambda: plain(by_scikit_learn), RESAMPLES // PLAIN),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    with threadpool_limits(limits=1):
        ours()  # warms up
        for _ in range(runs):
            for name, (work, times) in sides.items():
                wall, processor = seconds(work)
                taken[name].append((times * wall, times * processor))
    print(f"{N} utterances, {C} classes, {SPEAKERS} speakers, {RESAMPLES} resamples, {runs} rounds")
    base = statistics.median(processor for _, processor in taken["macro-F1, utterances"])
    for name, found in taken.items():
        wall, processor = (statistics.median(x) for x in zip(*found, strict=True))
        print(f"  {name:32s} {wall:8.3f} s, CPU {processor:8.3f} s, {processor / base:7.1f} times")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
