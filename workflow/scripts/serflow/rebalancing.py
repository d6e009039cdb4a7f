"""Prior rebalancing of a whole posteriors table, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serflow.errors import UserError
from serflow.posteriors import Posteriors
from serflow.prior_estimation import estimate_prior_bbse, estimate_prior_em
from serflow.priors import PriorShift


def rebalance(
    posteriors: Posteriors, target: Literal["uniform", "em", "bbse"] | Mapping[str, float]
) -> Posteriors:
    """Shift each fold from its own effective training prior to `target`.

    An estimated target is that of the rows which are shifted: in each fold, one for the test rows
    and one for the dev rows, as the two may have other class shares. The estimate sees all test
    rows of a fold at once, and none of their labels.

    Parameters
    ----------
    posteriors : Posteriors
        Raw ones.
    target : "uniform", "em", "bbse" or mapping of class to probability
        "em" estimates by `estimate_prior_em`, also for dev rows without their labels. "bbse"
        estimates by `estimate_prior_bbse` from the confusions of the fold's dev rows; for these
        themselves that gives their class shares.

    Returns
    -------
    rebalanced : Posteriors
        Its `priors` are the target's; an estimated one is that of the fold's test rows.

    Raises
    ------
    UserError
        If the posteriors of a fold cannot be shifted or their prior not be estimated; for "bbse",
        if a fold has no dev rows.
    """
    folds, roles = (posteriors.rows[column].to_numpy() for column in ("fold", "role"))
    shifted = np.empty_like(posteriors.log_proba)
    priors = {}
    for fold, train in posteriors.priors.items():
        dev, test = ((folds == fold) & (roles == role) for role in ("dev", "test"))
        try:
            for rows in (dev, test):
                if rows.any():
                    priors[fold] = _target(posteriors, train, target, rows, dev)
                    shift = PriorShift(train, priors[fold])
                    shifted[rows] = shift.transform(posteriors.log_proba[rows])
        except ValueError as error:
            raise UserError(
                f"fold {fold} cannot be rebalanced: {error}; classes are "
                f"{', '.join(posteriors.classes)}"
            ) from None
    return replace(posteriors, log_proba=shifted, priors=priors)


def _target(
    posteriors: Posteriors,
    train: NDArray[np.float64],
    target: str | Mapping[str, float],
    rows: NDArray[np.bool_],
    dev: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """The prior that some rows of a fold are shifted to, shape (n_classes,)."""
    if target == "uniform":
        return np.full(len(posteriors.classes), 1 / len(posteriors.classes))
    if target == "em":
        return estimate_prior_em(posteriors.log_proba[rows], train)
    if target == "bbse":
        if not dev.any():
            raise ValueError(
                "prior.target 'bbse' needs the confusions of dev rows, and there are none: set "
                "folds.dev, or target: em, which needs no labels"
            )
        return estimate_prior_bbse(
            posteriors.log_proba[rows], posteriors.log_proba[dev], posteriors.labels[dev]
        )
    return np.array([target[label] for label in posteriors.classes])
