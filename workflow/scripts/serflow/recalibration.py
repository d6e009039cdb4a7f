"""Calibrate whole posteriors tables, so that no row is calibrated by its own label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from serflow.calibration import METHODS, Calibration
from serflow.errors import UserError
from serflow.held_out import Fit, FitOn, expressed_priors, fit_held_out, groups_of
from serflow.posteriors import Posteriors
from serflow.training_prior import empirical_prior


def calibrate(
    posteriors: Posteriors, method: str, fit_on: FitOn, utterances: pd.DataFrame
) -> tuple[Posteriors, list[dict[str, Any]]]:
    """Calibrate the posteriors of one system.

    Parameters
    ----------
    posteriors : Posteriors
        Raw ones.
    method : str
        Key in `serflow.calibration.METHODS`.
    fit_on : {"dev", "cross_fit"}
        See `serflow.held_out.fit_held_out`; cross-fitted parts share no speaker.
    utterances : DataFrame
        utterance_id, corpus, speaker.

    Returns
    -------
    calibrated : Posteriors
        Its `priors` are those of the raw ones where the method keeps them (temperature), else the
        class shares of the rows that the calibration was fitted on.
    fits : list of dict
        One record a fit, as JSON: part, number of rows, their class shares, what was learnt.

    Raises
    ------
    UserError
        If there are no rows to fit on, or too few.
    """
    labels, n_classes = posteriors.labels, len(posteriors.classes)

    def make() -> Calibration:
        return METHODS[method]()

    try:
        calibrated, fits = fit_held_out(
            make,
            posteriors.log_proba,
            posteriors.rows,
            labels,
            groups_of(posteriors.rows, utterances),
            fit_on,
        )
    except ValueError as error:
        raise UserError(
            f"calibration.method '{method}': {error}; classes are {', '.join(posteriors.classes)}"
        ) from None

    def prior_of(fit: Fit[Calibration], fold: str) -> np.ndarray:
        if fit.model.keeps_prior:
            return posteriors.priors[fold]
        return empirical_prior(labels[fit.fitted], n_classes)

    kept = ~np.isnan(calibrated).any(axis=1)
    priors: Mapping[str, np.ndarray] = expressed_priors(fits, posteriors.rows, prior_of)
    return replace(
        posteriors,
        rows=posteriors.rows[kept].reset_index(drop=True),
        log_proba=calibrated[kept],
        priors=dict(priors),
    ), [
        {
            "part": fit.name,
            "n": int(fit.fitted.sum()),
            "shares": empirical_prior(labels[fit.fitted], n_classes).tolist(),
            "learnt": fit.model.learnt(),
        }
        for fit in fits
    ]
