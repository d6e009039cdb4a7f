r"""Bootstrap intervals of metrics, over utterances or speakers, and of differences of two systems.

Metrics need only confusion counts, so counts are resampled instead of utterances. Drawing n
utterances with replacement gives every utterance a multinomial count; utterances of the same
(reference, hypothesis) cell are interchangeable, and sums of multinomial counts are multinomial, so
the cells' counts are exactly
:math:`\text{Multinomial}(n, \text{count} / n)`: the same distribution, thousands of times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serflow.metrics import METRICS, Metric, class_indices
from serflow.resampling import cluster_indices, percentiles, resampled_sums, weighted_sum

ZERO = 1e-12  # differences smaller than this are rounding


@dataclass(frozen=True)
class Interval:
    """A metric and its percentile interval; arrays where the metric is per class or per cell.

    Parameters
    ----------
    value : float or ndarray
        The metric on all utterances.
    low, high : float or ndarray
        Ends of the interval, in the metric's unit; NaN where the metric is undefined.
    n : int
        Number of utterances; of folds or seeds, where these are drawn.
    """

    value: float | NDArray[np.float64]
    low: float | NDArray[np.float64]
    high: float | NDArray[np.float64]
    n: int

    def at(self, cell: tuple[int, ...]) -> Interval:
        """One number of an array of them; the empty cell is that of a single number."""
        value, low, high = (np.asarray(x)[cell] for x in (self.value, self.low, self.high))
        return Interval(value, low, high, self.n)


@dataclass(frozen=True)
class PairedInterval:
    """Difference of a metric between two systems, first minus second, and its percentile interval.

    Parameters
    ----------
    difference : float or ndarray
        Metric of the first system minus that of the second, on all utterances.
    low, high : float or ndarray
        Ends of the interval; both above 0: the first system is better, or worse by a metric
        whose `lower_is_better`.
    p : float or ndarray
        Two-sided p-value of no difference, in (0, 1].
    n : int
        Number of utterances.
    """

    difference: float | NDArray[np.float64]
    low: float | NDArray[np.float64]
    high: float | NDArray[np.float64]
    p: float | NDArray[np.float64]
    n: int


def bootstrap_interval(
    reference: ArrayLike,
    hypothesis: ArrayLike,
    n_classes: int,
    metric: str,
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a metric.

    Parameters
    ----------
    reference, hypothesis : array of int, shape (n_utterances,)
        Class indices in [0, n_classes).
    n_classes : int
        Number of classes in the class order.
    metric : str
        Key in `serflow.metrics.METRICS`.
    seed : int
        Of the resampling; the same seed gives the same interval, whatever the order of the rows.
    clusters : array, shape (n_utterances,), optional
        Speaker of each utterance. Given, whole speakers are drawn with replacement, as their
        utterances are not independent; the interval is then about new speakers. With few speakers
        (ten, say) it is known to come out somewhat narrow.
    resamples : int
        Number of resamples, at least 1.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    interval : Interval

    Raises
    ------
    ValueError
        If the metric is unknown, labels are not class indices, lengths differ, there are no
        utterances or fewer than two clusters.

    References
    ----------
    B. Efron and R. Tibshirani, "An introduction to the bootstrap", 1993, section 13.3.
    M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation", ICASSP 2004.

    Examples
    --------
    >>> interval = bootstrap_interval([0] * 50 + [1] * 50, [0] * 90 + [1] * 10, 2, "uar", seed=0)
    >>> print(f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
    0.60 [0.55, 0.66]
    """
    found = bootstrap_intervals(
        reference, hypothesis, n_classes, [metric],
        seed=seed, clusters=clusters, resamples=resamples, level=level,
    )  # fmt: skip
    return found[metric]


def bootstrap_intervals(
    reference: ArrayLike,
    hypothesis: ArrayLike,
    n_classes: int,
    metrics: Sequence[str],
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of several metrics from the same resamples.

    Each is what `bootstrap_interval` gives of it alone; arguments and errors are that one's.
    """
    chosen = {name: _metric(name) for name in metrics}
    units, multiplicity, n = _units(reference, [hypothesis], n_classes, clusters)
    counts = resampled_sums(units, multiplicity, resamples, seed)[:, 0]
    whole = weighted_sum(multiplicity, units)[0]
    found = {}
    for name, metric in chosen.items():
        low, high = percentiles(metric(counts), level)
        found[name] = Interval(value=metric(whole), low=low, high=high, n=n)
    return found


def paired_bootstrap(
    reference: ArrayLike,
    hypothesis_a: ArrayLike,
    hypothesis_b: ArrayLike,
    n_classes: int,
    metric: str,
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
) -> PairedInterval:
    """Percentile bootstrap interval of the difference of a metric, system a minus system b.

    Each resample draws the same utterances (or speakers) for both systems, so what makes an
    utterance hard for both cancels out. The p-value is twice the smaller share of resamples on
    either side of 0, with one added to count and total, so it is never 0; it is below 1 - `level`
    just where the interval leaves out 0, up to the resolution of the resamples.

    Parameters
    ----------
    reference, hypothesis_a, hypothesis_b : array of int, shape (n_utterances,)
        Class indices in [0, n_classes), the same utterances in the same order.
    n_classes, metric, seed, clusters, resamples, level
        As in `bootstrap_interval`.

    Returns
    -------
    interval : PairedInterval

    Raises
    ------
    ValueError
        As in `bootstrap_interval`.

    References
    ----------
    A. Davison and D. Hinkley, "Bootstrap methods and their application", 1997, section 4.4.

    Examples
    --------
    >>> reference = [0] * 50 + [1] * 50
    >>> fused, single = [0] * 60 + [1] * 40, [0] * 90 + [1] * 10
    >>> gain = paired_bootstrap(reference, fused, single, 2, "uar", seed=0)
    >>> print(f"{gain.difference:.2f} [{gain.low:.2f}, {gain.high:.2f}], p = {gain.p:.4f}")
    0.30 [0.23, 0.37], p = 0.0002
    """
    chosen = _metric(metric)
    units, multiplicity, n = _units(reference, [hypothesis_a, hypothesis_b], n_classes, clusters)
    counts = resampled_sums(units, multiplicity, resamples, seed)
    differences = chosen(counts[:, 0]) - chosen(counts[:, 1])
    low, high = percentiles(differences, level)
    value_a, value_b = chosen(weighted_sum(multiplicity, units))
    return PairedInterval(
        difference=value_a - value_b, low=low, high=high, p=_p_value(differences), n=n
    )


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; known are {', '.join(METRICS)}")
    return METRICS[name]


def _units(
    reference: ArrayLike, hypotheses: list[ArrayLike], n_classes: int, clusters: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Find what is drawn: counts (n_units, n_systems, C, C) and how often each unit occurs.

    A unit is a speaker, occurring once; or, for independent utterances, one joint cell (reference,
    hypothesis of each system), occurring as often as it has utterances.
    """
    names = ["reference", *(f"hypothesis {s}" for s in "ab"[: len(hypotheses)])]
    labels = [
        class_indices(v, n_classes, name)
        for v, name in zip([reference, *hypotheses], names, strict=True)
    ]
    n = labels[0].size
    for values, name in zip(labels, names, strict=True):
        if values.shape != (n,) or n == 0:
            raise ValueError(f"{name} has shape {values.shape}; expected ({n or 'at least 1'},)")
    if clusters is None:
        shape = (n_classes,) * len(labels)
        joint, multiplicity = np.unique(np.ravel_multi_index(labels, shape), return_counts=True)
        labels = np.unravel_index(joint, shape)
        unit, n_units = np.arange(joint.size), joint.size
    else:
        unit, n_units = cluster_indices(clusters, n)
        multiplicity = np.ones(n_units, dtype=np.int64)
    shape = (n_units, n_classes, n_classes)
    counts = [
        np.bincount(
            np.ravel_multi_index((unit, labels[0], hypothesis), shape), minlength=np.prod(shape)
        )
        for hypothesis in labels[1:]
    ]
    # Matrix products of float64 are fast, and exact for counts.
    return np.stack([c.reshape(shape) for c in counts], axis=1).astype(np.float64), multiplicity, n


def _p_value(differences: NDArray) -> NDArray[np.float64]:
    below, above = (differences <= ZERO).sum(axis=0), (differences >= -ZERO).sum(axis=0)
    known = (~np.isnan(differences)).sum(axis=0)
    p = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (known + 1))
    return np.where(known > 0, p, np.nan)[()]
