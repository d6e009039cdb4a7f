"""Fuse whole posteriors tables, so that no row chooses the weights that it is scored with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from serflow.digests import canonical, digest
from serflow.errors import UserError
from serflow.fusion import (
    Fusion,
    LinearInterpolation,
    LogisticRegressionFusion,
    LogLinearInterpolation,
    cross_fit,
)
from serflow.metrics import METRICS, confusion
from serflow.posteriors import Posteriors, stack
from serflow.training_prior import empirical_prior

INTERPOLATIONS = {
    "linear_interpolation": LinearInterpolation,
    "log_linear_interpolation": LogLinearInterpolation,
}


def make_fusion(settings: Mapping[str, Any]) -> Fusion:
    """An unfitted fusion from its settings in the study."""
    if settings["method"] in INTERPOLATIONS:
        interpolation = INTERPOLATIONS[settings["method"]]
        return interpolation(step=settings["step"], objective=settings["objective"])
    return LogisticRegressionFusion(C=settings["C"])


def fuse(
    systems: Mapping[str, Posteriors],
    name: str,
    fit_on: Literal["dev", "cross_fit"],
    make: Callable[[], Fusion],
) -> tuple[Posteriors, list[dict[str, Any]]]:
    """Fuse the posteriors of several systems.

    Parameters
    ----------
    systems : mapping of str to Posteriors
        In the order of the weights.
    name : str
        Name of the fusion in the tables.
    fit_on : {"dev", "cross_fit"}
        'dev': in each fold, fit on its dev rows and apply to its dev and test rows. 'cross_fit':
        the test rows of each fold are fused by a fusion that was fitted on the other folds' test
        rows.
    make : callable
        Returns an unfitted fusion.

    Returns
    -------
    fused : Posteriors
    fits : list of dict
        One record a fit, as JSON: fold, rows it was fitted on, macro-F1 on those, what it learnt.
    """
    rows, log_proba = stack(systems)
    first = next(iter(systems.values()))
    labels = first.labels
    folds, roles = rows["fold"].to_numpy(), rows["role"].to_numpy()
    fused = np.full(log_proba.shape[1:], np.nan)
    fits, priors = [], {}

    def record(fold: str, fusion: Fusion, fitted: np.ndarray) -> None:
        predicted = fusion.predict_log_proba(log_proba[:, fitted]).argmax(axis=1)
        counts = confusion(labels[fitted], predicted, len(first.classes))
        fits.append(
            {
                "fold": fold,
                "n": int(fitted.sum()),
                "macro_f1": float(METRICS["macro_f1"](counts)),
                **_learnt(fusion),
            }
        )
        priors[fold] = _prior(fusion, systems, fold, labels[fitted], len(first.classes))

    try:
        if fit_on == "dev":
            for fold in dict.fromkeys(folds):
                own, dev = folds == fold, (folds == fold) & (roles == "dev")
                if not dev.any():
                    raise UserError(f"{name}: fold {fold} has no dev rows to fit the fusion on")
                fusion = make().fit(log_proba[:, dev], labels[dev])
                fused[own] = fusion.predict_log_proba(log_proba[:, own])
                record(fold, fusion, dev)
        else:
            test = roles == "test"
            fused[test], fusions = cross_fit(make, log_proba[:, test], labels[test], folds[test])
            for fold, fusion in fusions.items():
                record(str(fold), fusion, test & (folds != fold))
    except ValueError as error:
        raise UserError(f"{name}: {error}; classes are {', '.join(first.classes)}") from None

    kept = ~np.isnan(fused).any(axis=1)
    return Posteriors(
        rows=rows[kept].assign(system=name).reset_index(drop=True),
        log_proba=fused[kept],
        classes=first.classes,
        priors=priors,
        seed=first.seed,
        system_digest=digest(canonical([p.system_digest for p in systems.values()])),
    ), fits


def _learnt(fusion: Fusion) -> dict[str, Any]:
    if isinstance(fusion, LinearInterpolation):
        return {
            "weights": fusion.weights_.tolist(),
            "grid": fusion.grid_.tolist(),
            "objective": fusion.objective_.tolist(),
        }
    regression = fusion.regression_
    return {"coef": regression.coef_.tolist(), "intercept": regression.intercept_.tolist()}


def _prior(
    fusion: Fusion,
    systems: Mapping[str, Posteriors],
    fold: str,
    fitted_labels: np.ndarray,
    n_classes: int,
) -> np.ndarray:
    """The prior that the fused posteriors express."""
    if isinstance(fusion, LinearInterpolation):
        priors = np.stack([system.priors[fold] for system in systems.values()])
        if not isinstance(fusion, LogLinearInterpolation):
            return fusion.weights_ @ priors
        # Likelihoods and priors are pooled alike; a class that no training saw keeps its 0.
        used = fusion.weights_ > 0
        pooled = np.prod(priors[used] ** fusion.weights_[used, None], axis=0)
        return pooled / pooled.sum()
    # A discriminative fit takes on the class shares of the rows that it was fitted on.
    return empirical_prior(fitted_labels, n_classes)
