"""Prior rebalancing of a whole posteriors table, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
                    moved = posteriors.log_proba[rows]
                    priors[fold] = target_prior(
                        target, posteriors.classes, moved, train, _part(posteriors, dev)
                    )
                    shifted[rows] = PriorShift(train, priors[fold]).transform(moved)
        except ValueError as error:
            raise UserError(
                f"fold {fold} cannot be rebalanced: {error}; classes are "
                f"{', '.join(posteriors.classes)}"
            ) from None
    return replace(posteriors, log_proba=shifted, priors=priors)


def target_prior(
    target: str | Mapping[str, float],
    classes: Sequence[str],
    log_proba: NDArray[np.float64],
    train: NDArray[np.float64],
    dev: Posteriors | None,
) -> NDArray[np.float64]:
    """The prior that some rows are shifted to.

    Parameters
    ----------
    target : str or mapping
        As of `rebalance`.
    classes : sequence of str
    log_proba : ndarray of float, shape (n, n_classes)
        Of the rows.
    train : ndarray of float, shape (n_classes,)
        The prior that they express.
    dev : Posteriors or None
        Rows of the same system with labels, for "bbse".

    Returns
    -------
    prior : ndarray of float64, shape (n_classes,)

    Raises
    ------
    ValueError
        If the prior cannot be estimated.
    """
    if target == "uniform":
        return np.full(len(classes), 1 / len(classes))
    if target == "em":
        return estimate_prior_em(log_proba, train)
    if target == "bbse":
        if dev is None or not len(dev.rows):
            raise ValueError(
                "prior.target 'bbse' needs the confusions of dev rows, and there are none: set "
                "folds.dev, or target: em, which needs no labels"
            )
        return estimate_prior_bbse(log_proba, dev.log_proba, dev.labels)
    return np.array([target[label] for label in classes])


def _part(posteriors: Posteriors, chosen: NDArray[np.bool_]) -> Posteriors:
    rows, log_proba = posteriors.rows[chosen], posteriors.log_proba[chosen]
    return replace(posteriors, rows=rows, log_proba=log_proba)
