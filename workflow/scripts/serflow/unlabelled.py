"""Predictions of rows without labels, calibrated, rebalanced and fused by what others have shown.

Calibrations and fusions come from the files that they were written to when they were fitted, on rows
with labels. Where there are several fits, as of cross-fitted ones, their mean is taken: nobody can say
which of them is for rows that no fold has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from serflow.attribute_fusion import AttributeInterpolation, stack_attributes
from serflow.attributes import Attributes
from serflow.calibration import METHODS, restore
from serflow.errors import UserError, name_some
from serflow.posteriors import Posteriors
from serflow.predictions import Predictions
from serflow.priors import PriorShift
from serflow.rebalancing import target_prior
from serflow.stacking import METHODS as FUSIONS


def at_stage(
    predictions: Predictions,
    stage: Literal["raw", "calibrated", "rebalanced"],
    calibration: Mapping[str, Any] | None,
    target: Literal["uniform", "em", "bbse"] | Mapping[str, float],
    dev: Posteriors | None = None,
) -> Predictions:
    """Take the raw predictions of one system to a later stage.

    Parameters
    ----------
    predictions : Predictions
    stage : {"raw", "calibrated", "rebalanced"}
    calibration : mapping or None
        What `calibrated` takes, where the study has a calibration: what is rebalanced is calibrated
        before.
    target, dev
        As of `rebalanced`.
    """
    if stage == "raw":
        return predictions
    if calibration is not None:
        predictions = calibrated(predictions, calibration)
    return rebalanced(predictions, target, dev) if stage == "rebalanced" else predictions


def calibrated(predictions: Predictions, learnt: Mapping[str, Any]) -> Predictions:
    """Calibrate the predictions of one system.

    Parameters
    ----------
    predictions : Predictions
        Raw ones.
    learnt : mapping
        `calibrations/<system>.json`: its `settings`, and `fits` as `recalibration.calibrate` records
        them. Of several the mean is taken: see `Calibration.mean_of`.

    Returns
    -------
    calibrated : Predictions
        Its `prior` is kept by a temperature; otherwise it is that of the rows of the fits.

    Raises
    ------
    UserError
        If the calibration is one of other classes.
    """
    method, fits = learnt["settings"]["method"], learnt["fits"]
    try:
        calibration = METHODS[method].mean_of([restore(method, fit["learnt"]) for fit in fits])
        log_proba = calibration.predict_log_proba(predictions.log_proba)
    except ValueError as error:
        raise UserError(f"calibration of {_name(predictions)}: {error}") from None
    prior = np.mean([fit["shares"] for fit in fits], axis=0)
    return replace(
        predictions,
        log_proba=log_proba,
        prior=predictions.prior if calibration.keeps_prior else prior,
    )


def rebalanced(
    predictions: Predictions,
    target: Literal["uniform", "em", "bbse"] | Mapping[str, float],
    dev: Posteriors | None = None,
) -> Predictions:
    """Move the predictions of one system to the study's target prior.

    Parameters
    ----------
    predictions : Predictions
        Raw or calibrated ones.
    target : "uniform", "em", "bbse" or mapping of class to probability
        As of `serflow.rebalancing.rebalance`; an estimate looks at all the predictions at once.
    dev : Posteriors, optional
        For "bbse": the same system's table of the same stage, of which the dev rows are read.

    Raises
    ------
    UserError
        If the predictions cannot be moved, or the prior not be estimated.
    """
    if dev is not None:
        chosen = dev.rows["role"] == "dev"
        dev = replace(dev, rows=dev.rows[chosen], log_proba=dev.log_proba[chosen])
    try:
        prior = target_prior(
            target, predictions.classes, predictions.log_proba, predictions.prior, dev
        )
        moved = PriorShift(predictions.prior, prior).transform(predictions.log_proba)
    except ValueError as error:
        raise UserError(
            f"predictions of {_name(predictions)} cannot be rebalanced: {error}; classes are "
            f"{', '.join(predictions.classes)}"
        ) from None
    return replace(predictions, log_proba=moved, prior=prior)


def fused(systems: Mapping[str, Predictions], learnt: Mapping[str, Any]) -> Predictions:
    """Fuse the predictions of several systems.

    Parameters
    ----------
    systems : mapping of str to Predictions
        In the order of the weights, each at the stage that the fusion was fitted at.
    learnt : mapping
        `fusions/<name>.json`: its `settings`, and `fits` as `stacking.fuse` records them. Of several
        the mean is taken: of weights, or of coefficients and intercepts.

    Raises
    ------
    UserError
        If systems have other rows or classes, or the fusion is one of other systems or classes.
    """
    settings, fits = learnt["settings"], learnt["fits"]
    first = next(iter(systems.values()))
    wanted = first.rows["utterance_id"]
    stacked = []
    for name, system in systems.items():
        ids = system.rows["utterance_id"]
        odd = sorted(set(ids) ^ set(wanted))
        if odd or tuple(system.classes) != tuple(first.classes):
            what = f"{len(odd)} rows: {name_some(odd)}" if odd else "the order of their classes"
            raise UserError(f"{_name(first)} and {name} differ in {what}. Predict both anew.")
        stacked.append(system.log_proba[pd.Index(ids).get_indexer(wanted)])
    priors = np.stack([system.prior for system in systems.values()])
    shares = np.mean([fit["shares"] for fit in fits] or priors, axis=0)
    try:
        fusion = FUSIONS[settings["method"]][0].from_learnt(fits, len(stacked))
        log_proba = fusion.predict_log_proba(np.stack(stacked))
    except ValueError as error:
        raise UserError(f"fusion {settings['name']}: {error}") from None
    return replace(
        first,
        rows=first.rows.assign(system=settings["name"]),
        log_proba=log_proba,
        prior=fusion.prior(priors, shares),
    )


def fused_attributes(systems: Mapping[str, Attributes], learnt: Mapping[str, Any]) -> Attributes:
    """Fuse the attributes that several systems predict.

    Parameters
    ----------
    systems : mapping of str to Attributes
        In the order of the weights; nothing reads their references.
    learnt : mapping
        `attribute_fusions/<name>.json`: its `settings`, and `fits` as
        `attribute_fusion.fuse_attributes` records them. Of several the mean weights are taken.

    Raises
    ------
    UserError
        If systems have other rows or attributes, or the fusion has.
    """
    name, first = learnt["settings"]["name"], next(iter(systems.values()))
    rows, stack = stack_attributes(systems)
    try:
        fusion = AttributeInterpolation.from_learnt(learnt["fits"], first.scale.names)
    except ValueError as error:
        raise UserError(f"fusion {name}: {error}") from None
    predicted = fusion.predict(stack).clip(first.scale.low, first.scale.high)
    return replace(first, rows=rows.assign(system=name), predicted=predicted)


def answers(table: Predictions | Attributes) -> dict[str, Any]:
    """What is handed in, by utterance id: the most probable class, or attribute -> value."""
    if isinstance(table, Predictions):
        return table.hypotheses.to_dict()
    values = [dict(zip(table.scale.names, row, strict=True)) for row in table.predicted.tolist()]
    return dict(zip(table.rows["utterance_id"], values, strict=True))


def _name(predictions: Predictions) -> str:
    return str(predictions.rows["system"].iloc[0])
