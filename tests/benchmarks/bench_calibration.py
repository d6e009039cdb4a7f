"""What a calibration takes to fit, and what the numbers of calibration take with their intervals.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_calibration.py [ROUNDS]

Simulated posteriors of 8 classes and 30,000 utterances that are twice too sure, one thread.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from serflow.calibration import METHODS
from serflow.reliability import RELIABILITY, reliability_interval

N_CLASSES, N = 8, 30_000


def posteriors() -> tuple[np.ndarray, np.ndarray]:
    """Log-posteriors (N, N_CLASSES) and references."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, N)
    logits = rng.standard_normal((N, N_CLASSES)) + 1.5 * np.eye(N_CLASSES)[y]
    return log_softmax(2.0 * logits, axis=-1), y


def seconds(function, rounds: int) -> float:
    """Median over rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(rounds: int = 5) -> None:
    """Measure and print."""
    logs, y = posteriors()
    for name, calibration in METHODS.items():
        fitted = calibration().fit(logs, y)
        nll = -fitted.predict_log_proba(logs)[np.arange(N), y].mean()
        took = seconds(lambda make=calibration: make().fit(logs, y), rounds)
        print(f"{name}: {took:.2f} s; NLL {-logs[np.arange(N), y].mean():.3f} to {nll:.3f}")
    took = seconds(lambda: reliability_interval(logs, y, seed=0, resamples=10_000), rounds)
    print(f"{', '.join(RELIABILITY)}, 10,000 resamples: {took:.1f} s")


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main(*map(int, sys.argv[1:]))
