"""Fit on some parts of the rows and predict the others, where there are no dev rows to fit on."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold

PARTS = 5


class Fitted(Protocol):
    """A fusion of stacked log-posteriors, or a calibration of those of one system."""

    def fit(self, log_posteriors: NDArray, y: NDArray, **groups: NDArray) -> Fitted:
        """Learn from log-posteriors (..., n_utterances, n_classes) and class indices."""

    def predict_log_proba(self, log_posteriors: NDArray) -> NDArray[np.float64]:
        """Log-posteriors, shape (n_utterances, n_classes)."""


T = TypeVar("T", bound=Fitted)


def cross_fit(
    make: Callable[[], T],
    log_posteriors: ArrayLike,
    y: ArrayLike,
    parts: ArrayLike,
    groups: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], dict[Hashable, T]]:
    """Predict each part of the rows with what was fitted on the other parts only.

    The rows something is scored on never choose its parameters: the labels of a part's rows do not
    reach what predicts them.

    Parameters
    ----------
    make : callable
        Returns a new, unfitted fusion or calibration.
    log_posteriors : array of float, shape (..., n_utterances, n_classes)
        Out-of-fold themselves; (n_systems, n_utterances, n_classes) for a fusion.
    y : array of int, shape (n_utterances,)
        Reference class indices.
    parts : array of int or str, shape (n_utterances,)
        Part of each row, see `disjoint_parts`; at least two.
    groups : array of int or str, shape (n_utterances,), optional
        Handed on to `fit`, for inner splits.

    Returns
    -------
    log_posteriors : ndarray of float64, shape (n_utterances, n_classes)
        In the order of the rows.
    fitted : dict
        Part to what predicted its rows, in sorted order.

    Raises
    ------
    ValueError
        If there are fewer than two parts, shapes differ, or a fit fails (the part is named).

    Examples
    --------
    >>> from serflow.fusion import LogisticRegressionFusion
    >>> speech = np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    >>> text = np.log([[0.7, 0.3], [0.6, 0.4], [0.3, 0.7], [0.3, 0.7]])
    >>> fused, fusions = cross_fit(
    ...     LogisticRegressionFusion, [speech, text], y=[0, 0, 1, 1], parts=[1, 2, 1, 2]
    ... )
    >>> fused.shape, list(fusions)
    ((4, 2), [1, 2])
    """
    log_posteriors, y, parts = (np.asarray(x) for x in (log_posteriors, y, parts))
    if not parts.shape == y.shape == log_posteriors.shape[-2:-1]:
        raise ValueError(
            f"parts have shape {parts.shape}, y {y.shape} and log-posteriors "
            f"{log_posteriors.shape}; expected (n,), (n,) and (..., n, n_classes)"
        )
    names = np.unique(parts).tolist()
    if len(names) < 2:
        raise ValueError(
            f"cross-fitting needs two parts or more; all rows are in part {names[0]!r}"
        )
    predicted = np.empty(log_posteriors.shape[-2:])
    fitted: dict[Hashable, T] = {}
    for part in names:
        scored = parts == part
        inner = {} if groups is None else {"groups": np.asarray(groups)[~scored]}
        try:
            fitted[part] = make().fit(log_posteriors[..., ~scored, :], y[~scored], **inner)
        except ValueError as error:
            raise ValueError(
                f"what predicts part {part!r}, fitted on the other parts: {error}"
            ) from error
        predicted[scored] = fitted[part].predict_log_proba(log_posteriors[..., scored, :])
    return predicted, fitted


def disjoint_parts(folds: ArrayLike, groups: ArrayLike) -> tuple[NDArray, str]:
    """Parts to cross-fit over, so that no group lies in two.

    Parameters
    ----------
    folds : array of str, shape (n_utterances,)
        Fold whose model predicted each row.
    groups : array of str, shape (n_utterances,)
        Its speaker; where speakers are not known, its utterance.

    Returns
    -------
    parts : ndarray of str, shape (n_utterances,)
    made_by : {"folds", "groups"}
        The folds themselves where no group lies in two of them; else five parts of whole groups,
        about equally large. Labels play no part in it.

    Raises
    ------
    ValueError
        If there is one group only, in several folds or in the only one.

    Examples
    --------
    >>> disjoint_parts(["0", "0", "1"], ["anna", "anna", "bob"])
    (array(['0', '0', '1'], dtype='<U1'), 'folds')
    """
    folds, groups = np.asarray(folds), np.asarray(groups)
    names = np.unique(groups)
    pairs = set(zip(groups.tolist(), folds.tolist(), strict=True))
    if len(pairs) == len(names) and len(np.unique(folds)) > 1:
        return folds, "folds"
    if len(names) < 2:
        raise ValueError(
            f"all rows are of {names[0]}: there are no two parts to fit on one and predict the "
            "other; fit on dev rows instead"
        )
    parts = np.empty(len(folds), dtype="<U8")
    splitter = GroupKFold(min(PARTS, len(names)))
    for i, (_, rows) in enumerate(splitter.split(parts, groups=groups)):
        parts[rows] = f"part-{i}"
    return parts, "groups"
