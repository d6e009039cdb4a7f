"""Weights of late fusions: the grid search against a loop over scikit-learn's `f1_score`.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_fusion.py [ROUNDS]

Two simulated systems that share part of their errors, 8 classes, 30,000 utterances, step 0.05.
Both sides run on one thread and in turn, so that the ratio holds on a machine whose speed drifts.
The loop mixes, takes the best class and calls `f1_score` at each of the 21 points. The grid alone
starts from probabilities, as the loop does; `fit` also takes the exponential of log-posteriors,
checks them and chooses.
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
from serflow.fusion.objectives import MetricObjective

N_CLASSES, N = 8, 30_000


def systems(n_systems: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-posteriors (n_systems, N, N_CLASSES) and references."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, N)
    shared = rng.standard_normal((N, N_CLASSES)) + 2.0 * np.eye(N_CLASSES)[y]
    own = rng.standard_normal((n_systems, N, N_CLASSES))
    return log_softmax(shared + own, axis=-1), y


def loop(first: np.ndarray, second: np.ndarray, y: np.ndarray) -> list[float]:
    """Macro-F1 at each of the 21 points, by scikit-learn."""
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
    both = np.exp(stack)
    classes_first = np.ascontiguousarray(both.transpose(0, 2, 1))

    def grid() -> np.ndarray:
        objective = MetricObjective(classes_first, y, "macro_f1")
        return objective.line(np.zeros(2), 0, 1, share=1.0, steps=20)

    expected = loop(*both, y)
    np.testing.assert_allclose(grid(), expected, atol=1e-12)
    np.testing.assert_allclose(LinearInterpolation().fit(stack, y).objective_, expected, atol=1e-12)
    times = [
        (timed(grid)[0], timed(LinearInterpolation().fit, stack, y)[0], timed(loop, *both, y)[0])
        for _ in range(rounds)
    ]
    *ours, theirs = (statistics.median(t) for t in zip(*times, strict=True))
    print(f"2 systems, 21 points, {apart:.0%} of rows disputed, {rounds} rounds:")
    print(f"loop: {1e3 * theirs:.0f} ms")
    for i, name in enumerate(("grid", "fit")):
        ratios = sorted(t[2] / t[i] for t in times)
        print(
            f"{name}: {1e3 * ours[i]:.1f} ms, {statistics.median(ratios):.0f} times as fast "
            f"({ratios[0]:.0f} to {ratios[-1]:.0f})"
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
