"""Calibration errors and the reliability diagram: how often something is right, by its posterior.

Both sort utterances into bins by a posterior. A bin's gap is the share that is right less the mean
posterior. Bins are fixed once, on all utterances, so gaps are sums over utterances.

References
----------
C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On calibration of modern neural networks", ICML 2017
(ECE). M. Kull et al., "Beyond temperature scaling", NeurIPS 2019 (classwise ECE).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from serflow.metrics import class_indices
from serflow.reliability.metric import ReliabilityMetric, checked

BINS = 15
Strategy = Literal["equal_width", "equal_mass"]
WIDENED = "the interval allows for the estimate's being too high by noise."


def reliability_curve(
    log_proba: ArrayLike,
    reference: ArrayLike,
    bins: int = BINS,
    strategy: Strategy = "equal_width",
    label: int | None = None,
) -> pd.DataFrame:
    """The points of a reliability diagram.

    Parameters
    ----------
    log_proba, reference
        As in `serflow.reliability.reliability_interval`.
    bins : int
        At least 1.
    strategy : {"equal_width", "equal_mass"}
        Bins of equal width in [0, 1], or between the quantiles of the posteriors, where equal
        posteriors stay together. The upper end belongs to a bin, the lower one does not.
    label : int, optional
        A class, whose posterior is compared with its share; the most probable class of each
        utterance, and how often it is right, if not given.

    Returns
    -------
    curve : DataFrame
        One row a bin: `low`, `high` (ends of the bin), `confidence` (mean posterior), `accuracy`
        (share that is right), both NaN in empty bins, and `n`.

    Raises
    ------
    ValueError
        As in `serflow.reliability.reliability_interval`, or if `bins`, `strategy` or `label` is out of range.

    Examples
    --------
    >>> log_proba = np.log([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    >>> reliability_curve(log_proba, [0, 1, 1], bins=2)
       low  high  confidence  accuracy  n
    0  0.0   0.5         NaN       NaN  0
    1  0.5   1.0    0.766667  0.666667  3
    """
    logs, reference = checked(log_proba, reference)
    if label is None:
        posterior, right = _top(logs, reference)
    else:
        label = int(class_indices([label], logs.shape[1], "label")[0])
        posterior, right = np.exp(logs[:, label]), reference == label
    edges, index = _bins(posterior, bins, strategy)
    n = np.bincount(index, minlength=bins)
    share = 1 / np.where(n > 0, n, np.nan)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "confidence": np.bincount(index, posterior, bins) * share,
            "accuracy": np.bincount(index, right, bins) * share,
            "n": n,
        }
    )


def _top(logs: NDArray, reference: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Posterior of the most probable class, and whether that is right."""
    top = logs.argmax(axis=1)
    return np.exp(logs[np.arange(len(logs)), top]), top == reference


def _bins(values: NDArray, bins: int, strategy: Strategy) -> tuple[NDArray, NDArray[np.int64]]:
    """Ends of the bins, shape (bins + 1,), and the bin of each value."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; expected at least 1")
    edges = np.linspace(0.0, 1.0, bins + 1)
    if strategy == "equal_mass":
        edges = np.percentile(values, 100 * edges)
    elif strategy != "equal_width":
        raise ValueError(f"strategy is {strategy!r}; expected equal_width or equal_mass")
    return edges, np.searchsorted(edges[1:-1], values)


def _gap_table(posterior: NDArray, right: NDArray, strategy: Strategy) -> NDArray[np.float64]:
    """Right (1 or 0) less posterior, in the column of its bin."""
    table = np.zeros((len(posterior), BINS))
    table[np.arange(len(posterior)), _bins(posterior, BINS, strategy)[1]] = right - posterior
    return table


def _classwise_table(logs: NDArray, reference: NDArray) -> NDArray[np.float64]:
    n_classes = logs.shape[1]
    tables = [
        _gap_table(posterior, reference == c, "equal_width")
        for c, posterior in enumerate(np.exp(logs).T)
    ]
    return np.concatenate(tables, axis=1) / n_classes


def _mean_gap(sums: NDArray, n: NDArray) -> NDArray[np.float64]:
    return np.abs(sums).sum(axis=-1) / n


ECE = ReliabilityMetric(
    "ece",
    "ECE",
    "Expected calibration error: size of the difference of the accuracy and the mean posterior of "
    f"the most probable class in each of {BINS} bins of equal width of that posterior, averaged "
    f"over utterances; {WIDENED}",
    lower_is_better=True,
    table=lambda logs, reference: _gap_table(*_top(logs, reference), "equal_width"),
    value=_mean_gap,
    of_gaps=True,
)
ECE_MASS = ReliabilityMetric(
    "ece_mass",
    "ECE, equal mass",
    f"Expected calibration error as ECE, in {BINS} bins of as many utterances each; equal posteriors "
    f"stay together, and resamples keep the bins; {WIDENED}",
    lower_is_better=True,
    table=lambda logs, reference: _gap_table(*_top(logs, reference), "equal_mass"),
    value=_mean_gap,
    of_gaps=True,
)
CLASSWISE_ECE = ReliabilityMetric(
    "classwise_ece",
    "Classwise ECE",
    "Mean over all classes, every class weighing the same, of the size of the difference of a "
    f"class's share and its mean posterior in each of {BINS} bins of equal width of that posterior, "
    f"averaged over utterances; {WIDENED}",
    lower_is_better=True,
    table=_classwise_table,
    value=_mean_gap,
    of_gaps=True,
)
