r"""Equal error rate of scores, one class against the rest, with its bootstrap interval.

For one class, an utterance is accepted where its score is at least a threshold. The miss rate (FNR)
is the share of the class's utterances that are refused, the false alarm rate (FPR) the share of the
others that are accepted. As the threshold rises, the first climbs from 0 to 1 and the second falls
from 1 to 0; the equal error rate is where they meet. Points of the ROC at neighbouring scores are
joined by straight lines, so utterances of equal score count as a random order of them would. Its
convex hull would give less, and more so the fewer utterances there are, as it is fitted to them.

References
----------
T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27, 2006, sections 4 to 6.
N. Brummer and E. de Villiers, "The BOSARIS toolkit user guide", 2011, section 2 (the convex hull).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from serflow.intervals import Interval
from serflow.metrics import class_indices
from serflow.resampling import CHUNK_VALUES, cluster_indices, equal_draws, percentiles


@dataclass(frozen=True)
class ScoreMetric:
    """A metric of scores rather than of decisions, its printed name and its printed definition.

    Parameters
    ----------
    name, title, definition : str
        As in `serflow.metrics.Metric`.
    lower_is_better : bool
    """

    name: str
    title: str
    definition: str
    lower_is_better: bool


EER = ScoreMetric(
    "eer",
    "EER",
    "Equal error rate: mean over classes of the rate at which FPR and FNR are equal, each class "
    "against the rest, the threshold on its posterior chosen on these very rows; lower is better; "
    "classes without or with nothing but reference utterances are left out.",
    lower_is_better=True,
)


def equal_error_rates(scores: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Equal error rate of each class against the rest.

    Parameters
    ----------
    scores : array of float, shape (n_utterances, n_classes)
        The higher, the more likely the class; posteriors and their logarithms give the same.
    reference : array of int, shape (n_utterances,)
        Class indices in [0, n_classes).

    Returns
    -------
    rates : ndarray of float64, shape (n_classes,)
        In [0, 1]; NaN for a class that no utterance or every utterance has.

    Raises
    ------
    ValueError
        If shapes differ, a score is NaN or a label is not a class index.

    Examples
    --------
    >>> equal_error_rates([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9]], [0, 0, 1, 1])
    array([0.5, 0.5])
    """
    scores, reference = _checked(scores, reference)
    times = np.ones((1, len(reference)), dtype=np.float32)
    return np.concatenate([one(times) for one in _classes(scores, reference)])


def equal_error_interval(
    scores: ArrayLike,
    reference: ArrayLike,
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Mean equal error rate over classes and its percentile bootstrap interval.

    In a resample that lacks a class, the mean is over the others.

    Parameters
    ----------
    scores, reference
        As in `equal_error_rates`; at least one utterance.
    seed, clusters, resamples, level
        As in `serflow.intervals.bootstrap_interval`.

    Returns
    -------
    interval : Interval

    Raises
    ------
    ValueError
        As in `equal_error_rates` and `serflow.intervals.bootstrap_interval`.

    Examples
    --------
    >>> scores = np.random.default_rng(0).random((200, 2))
    >>> reference = (scores[:, 1] > scores[:, 0]).astype(int)
    >>> interval = equal_error_interval(scores, reference, seed=0)
    >>> print(f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    0.223 [0.189, 0.261]
    """
    scores, reference = _checked(scores, reference)
    n = len(reference)
    classes = list(_classes(scores, reference))
    value = _mean([one(np.ones((1, n), dtype=np.float32)) for one in classes])[0]
    drawn = []
    for times in _draws(n, clusters, resamples, seed):
        drawn.append(_mean([one(times) for one in classes]))
    low, high = percentiles(np.concatenate(drawn), level)
    return Interval(value=value, low=low, high=high, n=n)


class _AgainstTheRest:
    """One class: its utterances and the others, sorted by score once.

    Called with how often each utterance is drawn, shape (resamples, n), it gives the rates, shape
    (resamples,). The curves of resamples meet near where those of all utterances do, so only the
    scores around that point are followed one by one; what lies to their left enters as a sum.
    Resamples that meet elsewhere are done over from end to end.
    """

    def __init__(self, scores: NDArray, positive: NDArray[np.bool_]) -> None:
        self._positive = positive
        self._order = np.argsort(scores, kind="stable")
        ranked = scores[self._order]
        # Last utterance of each score: a threshold cannot part equal ones.
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        refused = positive[self._order].astype(np.float64)
        positives = max(refused.sum(), 1.0)
        negatives = max(len(scores) - refused.sum(), 1.0)
        climb = np.cumsum(refused / positives + (1 - refused) / negatives) - 1.0
        self._climb = climb[self._ends]

    def __call__(self, times: NDArray[np.float32]) -> NDArray[np.float64]:
        middle = int(np.searchsorted(self._climb, 0.0).clip(max=len(self._climb) - 1))
        refused, passed, positives, negatives = self._left_of(times, middle)
        known = (positives > 0) & (negatives > 0)
        rates = np.full(len(times), np.nan)
        if not known.any():
            return rates
        if not known.all():
            times = times[known]
            refused, passed = refused[known], passed[known]
            positives, negatives = positives[known], negatives[known]
        away = np.abs(refused / positives + passed / negatives - 1.0).max()
        first = int(np.searchsorted(self._climb, -2 * away)) - 1
        last = int(np.searchsorted(self._climb, 2 * away).clip(max=len(self._climb) - 1))
        found, met = self._meet(times, first, last)
        if not met.all():
            found[~met] = self._meet(times[~met], -1, len(self._climb) - 1)[0]
        rates[known] = found
        return rates

    def _left_of(self, times: NDArray, end: int) -> tuple[NDArray, ...]:
        """Drawn positives and negatives up to a score (-1: none), and all of them."""
        left = np.zeros(len(self._order), dtype=bool)
        if end >= 0:
            left[self._order[: self._ends[end] + 1]] = True
        sides = [left & self._positive, left & ~self._positive, self._positive, ~self._positive]
        return tuple((times @ np.stack(sides, axis=1).astype(times.dtype)).T.astype(np.float64))

    def _meet(self, times: NDArray, first: int, last: int) -> tuple[NDArray, NDArray[np.bool_]]:
        """Rates where FNR and FPR meet between two scores, and whether they do."""
        refused, passed, positives, negatives = self._left_of(times, first)
        start = self._ends[first] + 1 if first >= 0 else 0
        window = self._order[start : self._ends[last] + 1]
        ends = self._ends[first + 1 : last + 1] - start
        mine = self._positive[window]
        # FNR - FPR climbs from -1 to 1; by positives times negatives it is a sum of counts: whole
        # numbers, and those of few utterances are exact in single precision.
        exact = np.float32 if (positives + negatives).max() ** 2 < 2**24 else np.float64
        goal = positives * negatives - (refused * negatives + passed * positives)
        step = {True: negatives.astype(exact), False: positives.astype(exact)}
        climb = _running(times.T, window, [step[own] for own in mine.tolist()], exact)[ends]
        below = (climb < goal.astype(exact)).sum(axis=0)
        hits = _running(times.T, window[mine], repeat(1.0), exact)
        rank = np.cumsum(mine)[ends]
        columns = np.arange(len(times))

        def point(place: NDArray) -> tuple[NDArray, NDArray]:
            """FNR, and the climb above the goal, at an index of `ends` or before the first."""
            inside = place.clip(min=0)
            risen = np.where(place < 0, 0.0, climb[inside, columns])
            above = np.where(place < 0, 0, rank[inside])
            more = np.where(above == 0, 0.0, hits[(above - 1).clip(min=0), columns])
            return (refused + more) / positives, risen - goal

        after = below.clip(max=len(ends) - 1)
        (miss, low), (more, high) = point(after - 1), point(after)
        share = np.divide(-low, high - low, out=np.zeros_like(low), where=high > low)
        return miss + share * (more - miss), (goal > 0) & (below < len(ends))


def _running(
    columns: NDArray, chosen: NDArray, factors: Iterable[NDArray | float], dtype: DTypeLike
) -> NDArray[np.floating]:
    """Running sums over some rows, each times its factor: (n, m) to (at least 1, m).

    Row by row within the processor's cache, ten times as fast as `cumsum` over the first axis.
    """
    sums = np.zeros((max(1, len(chosen)), columns.shape[1]), dtype)
    for i, (row, factor) in enumerate(zip(chosen, factors, strict=False)):
        np.multiply(columns[row], factor, out=sums[i])
        if i:
            sums[i] += sums[i - 1]
    return sums


def _classes(scores: NDArray, reference: NDArray) -> Iterator[_AgainstTheRest]:
    for label, column in enumerate(scores.T):
        yield _AgainstTheRest(column, reference == label)


def _checked(scores: ArrayLike, reference: ArrayLike) -> tuple[NDArray, NDArray]:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or not len(scores) or np.isnan(scores).any():
        raise ValueError(
            f"scores have shape {scores.shape} and {int(np.isnan(scores).sum())} NaN; expected "
            "(n_utterances, n_classes), at least one utterance and no NaN"
        )
    reference = class_indices(reference, scores.shape[1], "reference")
    if reference.shape != scores.shape[:1]:
        raise ValueError(f"reference has shape {reference.shape}; expected {scores.shape[:1]}")
    return scores, reference


def _draws(
    n: int, clusters: ArrayLike | None, resamples: int, seed: int
) -> Iterator[NDArray[np.float32]]:
    """How often each utterance is drawn, shape (some, n), `resamples` rows in all."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
    unit, n_units = (np.arange(n), n) if clusters is None else cluster_indices(clusters, n)
    for times in equal_draws(n_units, resamples, seed):
        # Of few speakers many resamples are drawn at once: they are spread over utterances in parts.
        for rows in np.array_split(times, -(-times.shape[0] * n // CHUNK_VALUES)):
            yield rows if clusters is None else rows[:, unit]


def _mean(rates: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over the classes that have a rate; NaN where none has."""
    table = np.array(rates)
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(0))
