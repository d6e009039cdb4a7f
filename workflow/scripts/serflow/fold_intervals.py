"""Intervals of means over folds or seeds, by bootstrap; and Wald's, as some publications print it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from serflow.intervals import Interval
from serflow.metrics import METRICS
from serflow.resampling import bootstrap_sums, percentiles


def fold_mean_interval(
    counts: ArrayLike,
    metric: str,
    *,
    seed: int,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Mean of a metric over folds (each fold weighing the same) and its percentile interval.

    The mean of the folds' own values is not the metric of all folds together: macro-F1 of pooled
    counts can lie on either side of it.

    Parameters
    ----------
    counts : array of int, shape (n_folds, n_classes, n_classes)
        Confusion counts of each fold's test rows, reference in the rows.
    metric : str
        Key in `serflow.metrics.METRICS`.
    seed, resamples, level
        As in `mean_interval`.

    Returns
    -------
    interval : Interval
        Its `n` is the number of folds.

    Raises
    ------
    ValueError
        As in `mean_interval`; if the metric is unknown or the counts have another shape.

    Examples
    --------
    >>> counts = [[[8, 2], [1, 9]], [[9, 1], [4, 6]], [[7, 3], [2, 8]]]
    >>> interval = fold_mean_interval(counts, "uar", seed=0)
    >>> print(f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    0.783 [0.750, 0.850]
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; known are {', '.join(METRICS)}")
    counts = np.asarray(counts)
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2]:
        raise ValueError(
            f"counts have shape {counts.shape}; expected (n_folds, n_classes, n_classes)"
        )
    return mean_interval(METRICS[metric](counts), seed=seed, resamples=resamples, level=level)


def mean_interval(
    values: ArrayLike, *, seed: int, resamples: int = 10_000, level: float = 0.95
) -> Interval:
    """Mean of the values of folds, or of seeds, and its percentile bootstrap interval.

    Whole folds (or seeds) are drawn with replacement. Over folds, the interval tells how far the
    mean depends on which utterances were trained on and tested; over seeds, on chance in training
    alone. Both are narrow where there are few: of five, the standard error comes out at about .9 of
    what it should be, and no end lies outside the smallest and largest value. Folds share training
    rows, which no resampling can account for. For several seeds of several folds, take the mean over
    seeds of each fold first.

    Parameters
    ----------
    values : array of float, shape (n_units, ...)
        One value, or one a class, of each fold or seed; NaN where a fold has none (it lacks the
        class, say), and the mean is then over the others.
    seed : int
        Of the resampling.
    resamples : int
        Number of resamples, at least 1.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    interval : Interval
        Its `n` is the number of folds or seeds. A resample of folds that all lack a value is left
        out.

    Raises
    ------
    ValueError
        If there are fewer than two folds or seeds, or `resamples` or `level` is out of range.

    References
    ----------
    Y. Bengio and Y. Grandvalet, "No unbiased estimator of the variance of k-fold cross-validation",
    Journal of Machine Learning Research 5, 2004.

    Examples
    --------
    >>> interval = mean_interval([0.61, 0.58, 0.64], seed=0)
    >>> print(f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    0.610 [0.580, 0.640]
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0 or len(values) < 2:
        raise ValueError(
            f"values have shape {values.shape}; expected those of at least two folds or seeds, as "
            "there is nothing to resample otherwise"
        )
    table = values.reshape(len(values), -1)
    known = ~np.isnan(table)
    table = np.concatenate([np.where(known, table, 0.0), known], axis=1)
    drawn = bootstrap_sums(table, seed=seed, resamples=resamples)
    # The first row is that of the folds as they are.
    total, folds = np.split(np.concatenate([table.sum(axis=0)[None], drawn]), 2, axis=1)
    means = np.divide(total, folds, out=np.full_like(total, np.nan), where=folds > 0)
    means = means.reshape(-1, *values.shape[1:])
    low, high = percentiles(means[1:], level)
    return Interval(value=means[0], low=low, high=high, n=len(values))


def wald_half_width(score: float, n: int, level: float = 0.95) -> float:
    r"""Half the width of Wald's interval of a share of utterances.

    .. math:: z \, \sqrt{\frac{p (1 - p)}{n}}

    with z = 1.96 for 95%. It is right for accuracy (WA) of many independent utterances. Some
    publications print it for macro-F1 (THAU-UPM, EmoSPeech 2024, Table 3), which is no share of
    anything: there it is too narrow where small classes decide. To be printed beside such a value,
    not to be relied on.

    Parameters
    ----------
    score : float
        In [0, 1].
    n : int
        Number of utterances, at least 1.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    half_width : float

    Raises
    ------
    ValueError
        If a value is out of range.

    References
    ----------
    L. Brown, T. Cai and A. DasGupta, "Interval estimation for a binomial proportion", Statistical
    Science 16(2), 2001.

    Examples
    --------
    >>> print(f"0.6094 ± {wald_half_width(0.6094, 750):.4f}")
    0.6094 ± 0.0349
    """
    if not (0 <= score <= 1 and n >= 1 and 0 < level < 1):
        raise ValueError(
            f"score is {score}, n {n} and level {level}; expected a score in [0, 1], at least one "
            "utterance and a level between 0 and 1"
        )
    return float(norm.ppf((1 + level) / 2) * np.sqrt(score * (1 - score) / n))
