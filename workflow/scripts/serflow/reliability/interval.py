"""Bootstrap intervals of metrics of posteriors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from serflow.intervals import Interval
from serflow.reliability.metric import ReliabilityMetric, checked
from serflow.reliability.registry import RELIABILITY
from serflow.resampling import bootstrap_sums, percentiles


def reliability_interval(
    log_proba: ArrayLike,
    reference: ArrayLike,
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
    metrics: Sequence[ReliabilityMetric] | None = None,
) -> dict[str, Interval]:
    r"""Metrics of posteriors and their bootstrap intervals, all from the same resamples.

    NLL, Brier score and cost have percentile intervals. Those would be wrong for calibration errors:
    of a calibrated system they hardly ever hold the true error, 0, nor even the estimate, which the
    resamples lie above. The estimate v is too high by something between 0 and what it would be were
    every gap noise, :math:`b = \sqrt{2 / \pi} \sum_i \sigma_i` over the standard deviations of the
    bins' gaps in the resamples. With d the resampled errors about their mean, the interval is
    :math:`[v - b + q_{0.025}(d), v + q_{0.975}(d)]`, cut off at 0 and 1: rather too wide than too
    narrow.

    Parameters
    ----------
    log_proba : array of float, shape (n_utterances, n_classes)
        Log-posteriors, natural logarithms, -inf allowed.
    reference : array of int, shape (n_utterances,)
        Class indices in [0, n_classes).
    seed, clusters, resamples, level
        As in `serflow.intervals.bootstrap_interval`. The order of the rows does not matter.
    metrics : sequence of ReliabilityMetric, optional
        All of `RELIABILITY` if not given.

    Returns
    -------
    intervals : dict of str to Interval
        By the metric's name; resampled sums are of single precision.

    Raises
    ------
    ValueError
        If rows are no log-posteriors, labels no class indices, shapes differ, or as in
        `serflow.intervals.bootstrap_interval`.

    References
    ----------
    J. Brocker and L. Smith, "Increasing the reliability of reliability diagrams", Weather and
    Forecasting 22, 2007 (the size that gaps of a calibrated forecast have).

    Examples
    --------
    >>> log_proba = np.log([[0.8, 0.2]] * 500 + [[0.3, 0.7]] * 500)
    >>> reference = np.tile([0, 0, 0, 1, 0], 100).tolist() + [1] * 350 + [0] * 150
    >>> found = reliability_interval(log_proba, reference, seed=0)["ece"]
    >>> print(f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]")
    0.000 [0.000, 0.018]
    """
    logs, reference = checked(log_proba, reference)
    # The draws are of positions: rows in an order of their own give one interval for one table.
    order = np.lexsort((reference, *logs.T))
    logs, reference = logs[order], reference[order]
    if clusters is not None:
        clusters = np.asarray(clusters)
        if clusters.shape != reference.shape:
            raise ValueError(f"clusters have shape {clusters.shape}; expected {reference.shape}")
        clusters = clusters[order]
    chosen = list(RELIABILITY.values()) if metrics is None else list(metrics)
    tables = [metric.table(logs, reference) for metric in chosen]
    columns = np.column_stack([np.ones(len(logs)), *tables]).astype(np.float32)
    with threadpool_limits(limits=1, user_api="blas"):  # last bits by no count of cores
        drawn = bootstrap_sums(columns, seed=seed, clusters=clusters, resamples=resamples)
    n, *parts = np.split(
        drawn.astype(np.float64), np.cumsum([1, *[t.shape[1] for t in tables]])[:-1], axis=1
    )
    found = {}
    for metric, table, sums in zip(chosen, tables, parts, strict=True):
        value, values = metric.of_table(table), metric.value(sums, n[:, 0])
        if metric.of_gaps:
            bias = np.sqrt(2 / np.pi) * (sums / n).std(axis=0).sum()
            below, above = percentiles(values - values.mean(), level)
            low, high = np.clip([value - bias + below, value + above], 0.0, 1.0)
        else:
            low, high = percentiles(values, level)
        found[metric.name] = Interval(value=value, low=low, high=high, n=len(logs))
    return found
