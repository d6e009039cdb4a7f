r"""Bootstrap intervals of metrics, over utterances or speakers, and of differences of two systems.

Metrics need only confusion counts, so counts are resampled instead of utterances. Drawing n
utterances with replacement gives every utterance a multinomial count; utterances of the same
(reference, hypothesis) cell are interchangeable, and sums of multinomial counts are multinomial, so
the cells' counts are exactly
:math:`\text{Multinomial}(n, \text{count} / n)`: the same distribution, thousands of times faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serflow.metrics import METRICS, Metric, class_indices

CHUNK_VALUES = 2**22  # 32 MiB of float64 at a time
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
        Number of utterances.
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
    chosen = _metric(metric)
    units, multiplicity, n = _units(reference, [hypothesis], n_classes, clusters)
    counts = _resampled(units, multiplicity, resamples, seed)
    low, high = percentiles(chosen(counts[:, 0]), level)
    value = chosen(_weighted_sum(multiplicity, units)[0])
    return Interval(value=value, low=low, high=high, n=n)


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
    counts = _resampled(units, multiplicity, resamples, seed)
    differences = chosen(counts[:, 0]) - chosen(counts[:, 1])
    low, high = percentiles(differences, level)
    value_a, value_b = chosen(_weighted_sum(multiplicity, units))
    return PairedInterval(
        difference=value_a - value_b, low=low, high=high, p=_p_value(differences), n=n
    )


def bootstrap_sums(
    table: ArrayLike, *, seed: int, clusters: ArrayLike | None = None, resamples: int = 10_000
) -> NDArray[np.float64]:
    """Sums over the rows of a table, of every resample: for what is a function of sums.

    Parameters
    ----------
    table : array of float, shape (n_utterances, n_columns)
    seed, clusters, resamples
        As in `bootstrap_interval`.

    Returns
    -------
    sums : ndarray of float64, shape (resamples, n_columns)

    Raises
    ------
    ValueError
        If lengths differ, there are no utterances or fewer than two clusters.

    Examples
    --------
    >>> sums = bootstrap_sums([[1.0, 3.0], [1.0, 5.0]], seed=0, resamples=3)
    >>> sums[:, 0].tolist()
    [2.0, 2.0, 2.0]
    """
    table = np.asarray(table, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"table has shape {table.shape}; expected (at least 1, n_columns)")
    if clusters is not None:
        unit, n_units = _clusters(clusters, len(table))
        table = np.column_stack([np.bincount(unit, column, n_units) for column in table.T])
    return _resampled(table, np.ones(len(table), dtype=np.int64), resamples, seed)


def _clusters(clusters: ArrayLike, n: int) -> tuple[NDArray[np.int64], int]:
    """Index of each utterance's cluster, and how many there are."""
    clusters = np.asarray(clusters)
    if clusters.shape != (n,):
        raise ValueError(f"clusters have shape {clusters.shape}; expected ({n},)")
    names, unit = np.unique(clusters, return_inverse=True)
    if names.size < 2:
        raise ValueError(
            f"all utterances are of cluster {names[0]!s}: there is nothing to resample"
        )
    return unit, names.size


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
        unit, n_units = _clusters(clusters, n)
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


def _resampled(
    units: NDArray, multiplicity: NDArray, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Sums over the drawn units, shape (resamples, ...), of units of shape (n_units, ...)."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
    rng = np.random.default_rng(seed)
    n_units, draws = len(units), int(multiplicity.sum())
    size = max(1, CHUNK_VALUES // n_units)
    counts = []
    # The generator is read in sequence: the size of the chunks does not change what is drawn.
    for done in range(0, resamples, size):
        rows = min(size, resamples - done)
        if draws == n_units:  # equal chances, as speakers have: counting indices is faster
            drawn = rng.integers(n_units, size=(rows, draws)) + n_units * np.arange(rows)[:, None]
            times = np.bincount(drawn.ravel(), minlength=rows * n_units).reshape(rows, n_units)
        else:
            times = rng.multinomial(draws, multiplicity / draws, size=rows)
        counts.append(_weighted_sum(times, units))
    return np.concatenate(counts)


def _weighted_sum(times: NDArray, units: NDArray) -> NDArray[np.float64]:
    """Sum over units, each `times` often: (..., n_units) and (n_units, ...) to (..., ...)."""
    total = times.astype(np.float64) @ units.reshape(len(units), -1)
    return total.reshape(*times.shape[:-1], *units.shape[1:])


def percentiles(values: NDArray, level: float) -> NDArray[np.float64]:
    """Ends of the central `level` of resampled values: (resamples, ...) to (2, ...)."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    # A rare class may be missing from some resamples: its recall is then taken over the others.
    known = ~np.isnan(values).all(axis=0)
    ends = np.full((2, *values.shape[1:]), np.nan)
    ends[:, known] = np.nanquantile(values[:, known], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ends


def _p_value(differences: NDArray) -> NDArray[np.float64]:
    below, above = (differences <= ZERO).sum(axis=0), (differences >= -ZERO).sum(axis=0)
    known = (~np.isnan(differences)).sum(axis=0)
    p = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (known + 1))
    return np.where(known > 0, p, np.nan)[()]
