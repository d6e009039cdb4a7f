"""Prior rebalancing of a whole posteriors table, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from serflow.errors import UserError
from serflow.posteriors import Posteriors
from serflow.priors import PriorShift


def rebalance(
    posteriors: Posteriors, target: Literal["uniform"] | Mapping[str, float]
) -> Posteriors:
    """Shift each fold from its own effective training prior to `target`.

    Parameters
    ----------
    posteriors : Posteriors
    target : "uniform" or mapping of class to probability

    Returns
    -------
    rebalanced : Posteriors
        Its `priors` are the target's.
    """
    n_classes = len(posteriors.classes)
    wanted = (
        np.full(n_classes, 1 / n_classes)
        if target == "uniform"
        else np.array([target[label] for label in posteriors.classes])
    )
    shifted = np.empty_like(posteriors.log_proba)
    folds = posteriors.rows["fold"].to_numpy()
    for fold, prior in posteriors.priors.items():
        rows = folds == fold
        try:
            shift = PriorShift(prior, wanted).fit()
            shifted[rows] = shift.transform(posteriors.log_proba[rows])
        except ValueError as error:
            raise UserError(f"fold {fold} cannot be rebalanced: {error}") from None
    return replace(posteriors, log_proba=shifted, priors=dict.fromkeys(posteriors.priors, wanted))
