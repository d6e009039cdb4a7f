"""Weights of late fusions: the grid search against a loop over scikit-learn's `f1_score`.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_fusion.py [ROUNDS]

Two simulated systems that share part of their errors, 8 classes, 30,000 utterances, step 0.05.
Both sides start from log-posteriors, run on one thread and in turn, so that the ratio holds on a
machine whose speed drifts. The loop mixes, takes the best class and calls `f1_score` at each of
the 21 points.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from serflow.fusion import LinearInterpolation, LogisticRegressionFusion, LogLinearInterpolation

N_CLASSES, N = 8, 30_000


def systems(n_systems: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-posteriors (n_systems, N, N_CLASSES) and references."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, N)
    shared = rng.standard_normal((N, N_CLASSES)) + 2.0 * np.eye(N_CLASSES)[y]
    own = rng.standard_normal((n_systems, N, N_CLASSES))
    return log_softmax(shared + own, axis=-1), y


def loop(stack: np.ndarray, y: np.ndarray) -> list[float]:
    """Macro-F1 at each of the 21 points, by scikit-learn."""
    first, second = np.exp(stack)
    return [
        f1_score(y, (w * first + (1 - w) * second).argmax(axis=1), average="macro")
        for w in np.linspace(0, 1, 21)
    ]


def timed(function, *arguments) -> tuple[float, object]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def main(rounds: int = 9) -> None:
    """Measure and print."""
    stack, y = systems(2)
    apart = (stack[0].argmax(axis=1) != stack[1].argmax(axis=1)).mean()
    ours = LinearInterpolation().fit(stack, y).objective_
    np.testing.assert_allclose(ours, loop(stack, y), atol=1e-12)
    times = [
        (timed(LinearInterpolation().fit, stack, y)[0], timed(loop, stack, y)[0])
        for _ in range(rounds)
    ]
    fit, theirs = (statistics.median(t) for t in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(
        f"2 systems, 21 points, {apart:.0%} of rows disputed: {1e3 * fit:.1f} ms, loop "
        f"{1e3 * theirs:.0f} ms, ratio {ratio:.0f} ({rounds} rounds)"
    )
    rows = [
        ("2 systems, exact weights", LinearInterpolation(step="exact"), 2),
        ("3 systems, 231 points", LinearInterpolation(), 3),
        ("3 systems, 231 points, log-linear", LogLinearInterpolation(), 3),
        ("3 systems, 231 points, NLL", LinearInterpolation(objective="nll"), 3),
        ("5 systems, coarse to fine", LinearInterpolation(), 5),
        ("3 systems, logistic regression", LogisticRegressionFusion(), 3),
    ]
    for name, fusion, n_systems in rows:
        stack, y = systems(n_systems)
        seconds = statistics.median(timed(fusion.fit, stack, y)[0] for _ in range(3))
        print(f"{name}: {seconds:.3f} s")


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main(*map(int, sys.argv[1:]))
