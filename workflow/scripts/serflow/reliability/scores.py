"""Proper scores: at their best, on average, for posteriors that are true."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serflow.log_posteriors import LOG_FLOOR
from serflow.reliability.metric import ReliabilityMetric


def _nll_table(logs: NDArray, reference: NDArray) -> NDArray[np.float64]:
    return -np.maximum(logs[np.arange(len(logs)), reference], LOG_FLOOR)[:, None]


def _brier_table(logs: NDArray, reference: NDArray) -> NDArray[np.float64]:
    off = np.exp(logs)
    off[np.arange(len(logs)), reference] -= 1.0
    return (off**2).sum(axis=1, keepdims=True)


def _mean(sums: NDArray, n: NDArray) -> NDArray[np.float64]:
    return sums[..., 0] / n


NLL = ReliabilityMetric(
    "nll",
    "NLL",
    "Mean negative natural logarithm of the reference class's posterior, in nats; posteriors below "
    "1e-10 count as 1e-10.",
    lower_is_better=True,
    table=_nll_table,
    value=_mean,
)
BRIER = ReliabilityMetric(
    "brier",
    "Brier",
    "Mean over utterances of the squared differences of the posteriors from 1 for the reference "
    "class and 0 for the others, summed over classes: from 0 to 2.",
    lower_is_better=True,
    table=_brier_table,
    value=_mean,
)
