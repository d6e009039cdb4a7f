"""Fit on rows that are not scored: the dev rows of each fold, or other parts' test rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serflow.crossing import Fitted, cross_fit, disjoint_parts
from serflow.errors import UserError

FitOn = Literal["dev", "cross_fit", "nothing"]
T = TypeVar("T", bound=Fitted)


@dataclass(frozen=True)
class Fit(Generic[T]):
    """One fit.

    Attributes
    ----------
    name : str
        The fold, or the part, whose rows it predicts.
    model : object
        A fitted fusion or calibration.
    fitted, predicted : ndarray of bool, shape (n_utterances,)
        The rows it was fitted on, and those that it predicts.
    """

    name: str
    model: T
    fitted: NDArray[np.bool_]
    predicted: NDArray[np.bool_]


def groups_of(rows: pd.DataFrame, utterances: pd.DataFrame) -> NDArray:
    """What must not be on both sides of a fit: each row's speaker, or its utterance without one.

    Parameters
    ----------
    rows : DataFrame
        utterance_id.
    utterances : DataFrame
        utterance_id, corpus, speaker.
    """
    known = utterances.set_index("utterance_id").loc[rows["utterance_id"]]
    speakers = (known["corpus"] + "/" + known["speaker"]).to_numpy(dtype=object)
    return np.where(pd.isna(speakers), rows["utterance_id"].to_numpy(), speakers).astype(str)


def parts_of(rows: pd.DataFrame, groups: NDArray) -> tuple[NDArray[np.bool_], NDArray]:
    """Which rows are test rows, and the part of each of these: see `disjoint_parts`."""
    test = (rows["role"] == "test").to_numpy()
    parts, _ = disjoint_parts(rows["fold"].to_numpy(str)[test], groups[test])
    return test, parts


def fit_held_out(
    make: Callable[[], T],
    log_proba: NDArray[np.float64],
    rows: pd.DataFrame,
    labels: NDArray[np.int64],
    groups: NDArray,
    fit_on: FitOn,
    grouped: bool = False,
) -> tuple[NDArray[np.float64], list[Fit[T]]]:
    """Fit and predict so that no row chooses the parameters that it is scored with.

    Parameters
    ----------
    make : callable
        Returns an unfitted fusion or calibration.
    log_proba : ndarray of float, shape (..., n_utterances, n_classes)
    rows : DataFrame
        fold, role.
    labels : ndarray of int, shape (n_utterances,)
        Class indices.
    groups : ndarray of str, shape (n_utterances,)
        See `groups_of`.
    fit_on : {"dev", "cross_fit", "nothing"}
        'dev': in each fold, fit on its dev rows and predict its dev and test rows. 'cross_fit': the
        test rows are dealt into parts that share no group, and each part is predicted by a fit on
        the others. 'nothing': for what learns nothing; all rows are predicted.
    grouped : bool
        Whether `fit` takes groups, for inner splits of its own.

    Returns
    -------
    predicted : ndarray of float, shape (n_utterances, n_classes)
        NaN where nothing is predicted: dev rows, when cross-fitted.
    fits : list of Fit

    Raises
    ------
    UserError
        If a fold has no dev rows.
    ValueError
        If a fit fails.
    """
    predicted = np.full(log_proba.shape[-2:], np.nan)
    if fit_on == "nothing":
        every = np.ones(len(rows), dtype=bool)
        model = make().fit(log_proba, labels)
        return model.predict_log_proba(log_proba), [Fit("all", model, ~every, every)]
    if fit_on == "cross_fit":
        test, parts = parts_of(rows, groups)
        predicted[test], models = cross_fit(
            make, log_proba[..., test, :], labels[test], parts, groups[test] if grouped else None
        )
        fits = []
        for name, model in models.items():
            own = np.zeros(len(rows), dtype=bool)
            own[test] = parts == name
            fits.append(Fit(str(name), model, test & ~own, own))
        return predicted, fits
    folds, roles = rows["fold"].to_numpy(), rows["role"].to_numpy()
    fits = []
    for fold in dict.fromkeys(folds):
        own = folds == fold
        dev = own & (roles == "dev")
        if not dev.any():
            raise UserError(f"fold {fold} has no dev rows to fit on; set fit_on: cross_fit")
        inner = {"groups": groups[dev]} if grouped else {}
        model = make().fit(log_proba[..., dev, :], labels[dev], **inner)
        predicted[own] = model.predict_log_proba(log_proba[..., own, :])
        fits.append(Fit(str(fold), model, dev, own))
    return predicted, fits


def expressed_priors(
    fits: list[Fit[T]], rows: pd.DataFrame, prior_of: Callable[[Fit[T], str], NDArray[np.float64]]
) -> Mapping[str, Any]:
    """For each fold the class prior that its predicted rows express.

    Where several fits predict rows of one fold, the mean of their priors over its rows.
    """
    folds = rows["fold"].to_numpy()
    priors = {}
    for fold in dict.fromkeys(folds):
        shares = [(fit, int((fit.predicted & (folds == fold)).sum())) for fit in fits]
        used = [(fit, n) for fit, n in shares if n]
        if used:
            priors[fold] = np.average(
                [prior_of(fit, fold) for fit, _ in used], axis=0, weights=[n for _, n in used]
            )
    return priors
