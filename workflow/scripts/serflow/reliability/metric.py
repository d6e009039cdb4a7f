"""Metrics of posteriors that are functions of sums over utterances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serflow.calibration.interface import checked_log_posteriors
from serflow.equal_error import ScoreMetric
from serflow.metrics import class_indices


@dataclass(frozen=True)
class ReliabilityMetric(ScoreMetric):
    """A metric of posteriors that is a function of sums over utterances.

    Parameters
    ----------
    name, title, definition, lower_is_better
        As in `serflow.metrics.Metric`.
    table : callable
        Log-posteriors (n, n_classes) and references (n,) to what is summed, shape (n, n_columns).
    value : callable
        Sums (..., n_columns) and numbers of utterances (...) to values (...).
    of_gaps : bool
        Whether it adds up the sizes of bins' gaps. The noise of a gap adds to its size, so that the
        metric comes out too high, and higher still in a resample.

    Examples
    --------
    >>> from serflow.reliability import RELIABILITY
    >>> round(RELIABILITY["nll"](np.log([[0.5, 0.5], [0.8, 0.2]]), [0, 0]), 4)
    0.4581
    """

    table: Callable[[NDArray, NDArray], NDArray[np.float64]]
    value: Callable[[NDArray, NDArray], NDArray[np.float64]]
    of_gaps: bool = False

    def __call__(self, log_proba: ArrayLike, reference: ArrayLike) -> float:
        """Value of the metric, on log-posteriors (n, n_classes) and class indices (n,)."""
        logs, reference = checked(log_proba, reference)
        return self.of_table(self.table(logs, reference))

    def of_table(self, table: NDArray) -> float:
        """Value of the metric on its table of all utterances."""
        return float(self.value(table.sum(axis=0), np.float64(len(table))))


def checked(log_proba: ArrayLike, reference: ArrayLike) -> tuple[NDArray, NDArray]:
    """Log-posteriors (n, n_classes) and class indices (n,) as arrays, or a ValueError."""
    logs = checked_log_posteriors(log_proba)
    reference = class_indices(reference, logs.shape[1], "reference")
    if reference.shape != logs.shape[:1]:
        raise ValueError(f"reference has shape {reference.shape}; expected {logs.shape[:1]}")
    return logs, reference
