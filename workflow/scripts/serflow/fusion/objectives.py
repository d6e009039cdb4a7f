"""What weights of an interpolation are chosen by, evaluated along lines between two systems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from serflow.fusion.simplex import TIE
from serflow.fusion.sweep import best_classes, confusions_along, confusions_between
from serflow.metrics import METRICS, confusion


class Objective(Protocol):
    """A gain, higher is better, of the weights of several systems."""

    def line(
        self, base: NDArray[np.float64], s: int, t: int, share: float, steps: int
    ) -> NDArray[np.float64]:
        """Gains where systems s and t share a weight; see `serflow.fusion.simplex.Line`."""

    def best_between(self) -> tuple[float, float]:
        """Of two systems: the first one's best weight of all in [0, 1], and the gain there."""


class MetricObjective:
    """A metric of confusion counts.

    Parameters
    ----------
    scores : ndarray of float64, shape (n_systems, n_classes, n_utterances)
        Whose weighted sum's highest class is decided for.
    y : ndarray of int, shape (n_utterances,)
        Reference class indices.
    metric : str
        Key in `METRICS`; higher is better.
    """

    def __init__(self, scores: NDArray[np.float64], y: NDArray[np.int64], metric: str) -> None:
        self.metric = METRICS[metric]
        self.scores, self.y = scores, y
        self.certain = np.zeros((scores.shape[1], scores.shape[1]), dtype=np.int64)
        if len(scores) > 2:  # two make one line, which looks at disputed rows alone
            winners = np.stack([best_classes(system) for system in scores])
            # What all systems decide alike, every mixture does.
            disputed = (winners != winners[0]).any(axis=0)
            self.certain = confusion(y[~disputed], winners[0, ~disputed], scores.shape[1])
            self.scores = np.compress(disputed, scores, axis=2)
            self.y = y[disputed]

    def line(
        self, base: NDArray[np.float64], s: int, t: int, share: float, steps: int
    ) -> NDArray[np.float64]:
        """See `Objective.line`."""
        start, end = self.scores[t], self.scores[s]
        if base.any():
            fixed = sum(base[k] * self.scores[k] for k in np.flatnonzero(base))
            start, end = fixed + share * start, fixed + share * end
        return self.metric(confusions_along(start, end, self.y, max(steps, 1)) + self.certain)[
            : steps + 1
        ]

    def best_between(self) -> tuple[float, float]:
        """See `Objective.best_between`; of equals the weight nearest to one half."""
        edges, counts = confusions_between(self.scores[1], self.scores[0], self.y)
        gains = self.metric(counts + self.certain)
        best = np.flatnonzero(gains >= gains.max() - TIE)
        low, high = edges[best], edges[best + 1]
        inside = np.where((low < 0.5) & (high > 0.5), 0.5, (low + high) / 2)
        nearest = np.abs(inside - 0.5).argmin()
        return float(inside[nearest]), float(gains[best[nearest]])


class LinearLikelihood:
    """Mean log-posterior of the reference class under a linear interpolation.

    Parameters
    ----------
    references : ndarray of float64, shape (n_systems, n_utterances)
        Each system's log-posterior of the reference class.
    """

    def __init__(self, references: NDArray[np.float64]) -> None:
        self.references = references

    def line(
        self, base: NDArray[np.float64], s: int, t: int, share: float, steps: int
    ) -> NDArray[np.float64]:
        """See `Objective.line`."""
        return np.array([self._gain(w) for w in _line_weights(base, s, t, share, steps)])

    def best_between(self) -> tuple[float, float]:
        """See `Objective.best_between`; the gain is concave."""
        return _highest(lambda share: self._gain(np.array([share, 1 - share])))

    def _gain(self, weights: NDArray[np.float64]) -> float:
        used = np.flatnonzero(weights)
        return float(mix(np.log(weights[used]), self.references[used]).mean())


class LogLinearLikelihood:
    """Mean log-posterior of the reference class under a log-linear interpolation.

    Parameters
    ----------
    logs : ndarray of float64, shape (n_systems, n_classes, n_utterances)
        Finite log-posteriors.
    y : ndarray of int, shape (n_utterances,)
    """

    def __init__(self, logs: NDArray[np.float64], y: NDArray[np.int64]) -> None:
        self.logs = logs
        self.y = y

    def line(
        self, base: NDArray[np.float64], s: int, t: int, share: float, steps: int
    ) -> NDArray[np.float64]:
        """See `Objective.line`."""
        return np.array([self._gain(w) for w in _line_weights(base, s, t, share, steps)])

    def best_between(self) -> tuple[float, float]:
        """See `Objective.best_between`; the gain is concave."""
        return _highest(lambda share: self._gain(np.array([share, 1 - share])))

    def _gain(self, weights: NDArray[np.float64]) -> float:
        used = np.flatnonzero(weights)
        mixed = sum(weights[k] * self.logs[k] for k in used)
        return float((mixed[self.y, np.arange(len(self.y))] - logsumexp(mixed, axis=0)).mean())


def mix(log_weights: NDArray, logs: NDArray) -> NDArray[np.float64]:
    """Logarithm of a weighted sum of probabilities: (n_systems,), (n_systems, ...) to (...)."""
    mixed = log_weights[0] + logs[0]
    for weight, system in zip(log_weights[1:], logs[1:], strict=True):
        mixed = np.logaddexp(mixed, weight + system)
    return mixed


def _line_weights(
    base: NDArray[np.float64], s: int, t: int, share: float, steps: int
) -> NDArray[np.float64]:
    weights = np.repeat(base[None], steps + 1, axis=0)
    weights[:, s] += np.linspace(0, share, steps + 1)
    weights[:, t] += np.linspace(share, 0, steps + 1)
    return weights


def _highest(gain: Callable[[float], float]) -> tuple[float, float]:
    found = minimize_scalar(lambda share: -gain(share), bounds=(0, 1), method="bounded")
    return float(found.x), float(-found.fun)
