"""What a shift of the prior does: to a metric, if the target is wrong, and to every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from serflow.metrics import METRICS, class_indices, confusion
from serflow.priors import check_distribution, check_log_posteriors

EXPONENTS = np.linspace(-1.0, 3.0, 41)


def prior_sensitivity(
    log_posteriors: ArrayLike,
    y: ArrayLike,
    train_prior: ArrayLike,
    target: Literal["uniform"] | ArrayLike = "uniform",
    *,
    metric: str = "macro_f1",
    exponents: ArrayLike = EXPONENTS,
) -> NDArray[np.float64]:
    r"""Metric of posteriors that are shifted to priors on the way through the target and beyond.

    .. math:: \pi_a(y) \propto \pi_{train}(y)^{1 - a} \, \pi_{target}(y)^a

    At a = 0 posteriors stay as they are, at a = 1 they are shifted to the target, at a = 2 as far
    again; below 0 they move the wrong way. A flat curve around 1 means that a target which is not
    quite right costs little.

    Parameters
    ----------
    log_posteriors : array of float, shape (n_utterances, n_classes)
        Natural logarithms; -inf stands for an impossible class.
    y : array of int, shape (n_utterances,)
        Reference class indices.
    train_prior : array of float, shape (n_classes,) or (n_utterances, n_classes)
        Prior that the log-posteriors express; one for each utterance where they come from several
        folds.
    target : "uniform" or array of float, shape as of `train_prior`
        "uniform" is over all classes.
    metric : str
        Key in `serflow.metrics.METRICS`.
    exponents : array of float, shape (n_points,)
        Values of a; 41 from -1 to 3 if not given.

    Returns
    -------
    values : ndarray of float64, shape (n_points,) + (n_classes,) * class_axes of the metric

    Raises
    ------
    ValueError
        If the metric is unknown, shapes differ, a prior is not a distribution, labels are not class
        indices, or a class has a positive prior on one side and 0 on the other: there is no way
        between them.

    Examples
    --------
    >>> log_posteriors = np.log([[0.9, 0.1], [0.6, 0.4], [0.95, 0.05], [0.7, 0.3]])
    >>> wa = prior_sensitivity(
    ...     log_posteriors, [0, 1, 0, 1], [0.8, 0.2], metric="wa", exponents=[0, 1, 2]
    ... )
    >>> wa.tolist()
    [0.5, 1.0, 0.75]
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; known are {', '.join(METRICS)}")
    log_posteriors = np.asarray(log_posteriors, dtype=np.float64)
    n_classes = log_posteriors.shape[-1] if log_posteriors.ndim else 0
    log_posteriors = check_log_posteriors(log_posteriors, n_classes)
    train = _priors(train_prior, log_posteriors.shape, "train_prior")
    if isinstance(target, str):
        if target != "uniform":
            raise ValueError(
                f'target is {target!r}; expected "uniform" or an array of probabilities'
            )
        target = np.full(n_classes, 1 / n_classes)
    wanted = _priors(target, log_posteriors.shape, "target")
    one_sided = ((train > 0) != (wanted > 0)).any(axis=0)
    if one_sided.any():
        raise ValueError(
            f"class {one_sided.argmax()} has prior 0 in training or in the target and not in the "
            "other: there is no way between them; leave the class out"
        )
    seen = train > 0
    full = np.where(seen, log_posteriors, -np.inf)
    direction = np.zeros(np.broadcast_shapes(train.shape, wanted.shape))
    np.log(np.divide(wanted, train, where=seen, out=np.ones_like(direction)), out=direction)
    hypotheses = [(full + a * direction).argmax(axis=1) for a in np.asarray(exponents, dtype=float)]
    return METRICS[metric](confusion(y, np.array(hypotheses, dtype=np.int64), n_classes))


def class_effects(
    raw: ArrayLike, rebalanced: ArrayLike, y: ArrayLike, classes: Sequence[str]
) -> pd.DataFrame:
    """What rebalancing does to each class.

    Parameters
    ----------
    raw, rebalanced : array of float, shape (n_utterances, n_classes)
        Posteriors or their logarithms, of the same utterances.
    y : array of int, shape (n_utterances,)
        Reference class indices.
    classes : sequence of str
        The order of the columns.

    Returns
    -------
    effects : DataFrame, a row for each class
        label; n (reference utterances) and share (of all); then, each ending in `_raw` and
        `_rebalanced`: recall, precision and f1 (NaN where undefined, as in `METRICS`), and
        predicted, the share of utterances that are given the class.

    Raises
    ------
    ValueError
        If shapes differ, or labels are not class indices.

    Examples
    --------
    >>> raw = [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.3, 0.7]]
    >>> moved = [[0.7, 0.3], [0.3, 0.7], [0.4, 0.6], [0.1, 0.9]]
    >>> effects = class_effects(raw, moved, [0, 0, 1, 1], ["neutral", "angry"])
    >>> effects[["label", "n", "recall_raw", "recall_rebalanced"]]
         label  n  recall_raw  recall_rebalanced
    0  neutral  2         1.0                0.5
    1    angry  2         0.5                1.0
    """
    tables = [np.asarray(table) for table in (raw, rebalanced)]
    y = class_indices(y, len(classes), "reference")
    for name, table in zip(("raw", "rebalanced"), tables, strict=True):
        if table.shape != (len(y), len(classes)):
            raise ValueError(
                f"{name} has shape {table.shape}; expected ({len(y)}, {len(classes)}), a row for "
                "each label and a column for each class"
            )
    counts = confusion(y, np.stack([table.argmax(axis=1) for table in tables]), len(classes))
    support = counts[0].sum(axis=1)
    columns = {"label": list(classes), "n": support, "share": support / max(len(y), 1)}
    values = {name: METRICS[name](counts) for name in ("recall", "precision", "f1")}
    values["predicted"] = counts.sum(axis=1) / max(len(y), 1)
    for name, (before, after) in values.items():
        columns |= {f"{name}_raw": before, f"{name}_rebalanced": after}
    return pd.DataFrame(columns)


def _priors(values: ArrayLike, shape: tuple[int, int], name: str) -> NDArray[np.float64]:
    """One prior, or one for each utterance, as rows."""
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if values.ndim != 2 or values.shape[0] not in (1, shape[0]) or values.shape[1] != shape[1]:
        raise ValueError(f"{name} has shape {values.shape}; expected ({shape[1]},) or {shape}")
    for row in np.unique(values, axis=0):
        check_distribution(row, name)
    return values
