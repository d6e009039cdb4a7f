"""Fuse whole posteriors tables, so that no row chooses the weights that it is scored with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from serflow.alignment import stack
from serflow.digests import canonical, digest
from serflow.errors import UserError
from serflow.fusion import (
    Fusion,
    LinearInterpolation,
    LogisticRegressionFusion,
    LogLinearInterpolation,
    MajorityVote,
    MeanFusion,
)
from serflow.held_out import Fit, FitOn, expressed_priors, fit_held_out, groups_of
from serflow.metrics import METRICS, confusion
from serflow.posteriors import Posteriors
from serflow.training_prior import empirical_prior

METHODS = {
    "linear_interpolation": (LinearInterpolation, ("step", "objective")),
    "log_linear_interpolation": (LogLinearInterpolation, ("step", "objective")),
    "logistic_regression": (LogisticRegressionFusion, ("C",)),
    "mean": (MeanFusion, ()),
    "majority": (MajorityVote, ()),
}


def make_fusion(settings: Mapping[str, Any]) -> Fusion:
    """An unfitted fusion from its settings in the study."""
    fusion, parameters = METHODS[settings["method"]]
    return fusion(**{name: settings[name] for name in parameters})


def fuse(
    systems: Mapping[str, Posteriors],
    name: str,
    fit_on: FitOn,
    make: Callable[[], Fusion],
    utterances: pd.DataFrame,
    missing: Literal["error", "prior"] = "error",
) -> tuple[Posteriors, dict[str, Any]]:
    """Fuse the posteriors of several systems.

    Parameters
    ----------
    systems : mapping of str to Posteriors
        In the order of the weights.
    name : str
        Name of the fusion in the tables.
    fit_on : {"dev", "cross_fit", "nothing"}
        See `serflow.held_out.fit_held_out`; cross-fitted parts share no speaker.
    make : callable
        Returns an unfitted fusion.
    utterances : DataFrame
        utterance_id, corpus, speaker.
    missing : {"error", "prior"}
        What becomes of an utterance that a system lacks: see `serflow.alignment.stack`.

    Returns
    -------
    fused : Posteriors
    learnt : dict
        As JSON: `filled` (system -> rows it lacked) and `fits`, one record a fit on rows: part,
        rows it was fitted on, their class shares, macro-F1 of the fusion on those and of each
        system alone, what it learnt.
    """
    rows, log_proba, filled = stack(systems, missing)
    first = next(iter(systems.values()))
    n_classes = len(first.classes)
    labels = rows["label"].map(first.classes.index).to_numpy(np.int64)
    groups = groups_of(rows, utterances)
    try:
        fused, fits = fit_held_out(make, log_proba, rows, labels, groups, fit_on, grouped=True)
    except ValueError as error:
        raise UserError(f"{name}: {error}; classes are {', '.join(first.classes)}") from None
    except UserError as error:
        raise UserError(f"{name}: {error}") from None

    def prior_of(fit: Fit[Fusion], fold: str) -> np.ndarray:
        priors = np.stack([system.priors[fold] for system in systems.values()])
        learns = fit.fitted.any()
        shares = empirical_prior(labels[fit.fitted], n_classes) if learns else priors.mean(axis=0)
        return fit.model.prior(priors, shares)

    def macro_f1(fit: Fit[Fusion], decided: np.ndarray) -> float:
        counts = confusion(labels[fit.fitted], decided.argmax(axis=-1), n_classes)
        return float(METRICS["macro_f1"](counts))

    records = [
        {
            "part": fit.name,
            "n": int(fit.fitted.sum()),
            "shares": empirical_prior(labels[fit.fitted], n_classes).tolist(),
            "macro_f1": macro_f1(fit, fit.model.predict_log_proba(log_proba[:, fit.fitted])),
            "alone": {
                system: macro_f1(fit, log_proba[s, fit.fitted]) for s, system in enumerate(systems)
            },
            **fit.model.learnt(),
        }
        for fit in fits
        if fit.fitted.any()
    ]
    kept = ~np.isnan(fused).any(axis=1)
    return Posteriors(
        rows=rows[kept].assign(system=name).reset_index(drop=True),
        log_proba=fused[kept],
        classes=first.classes,
        priors=dict(expressed_priors(fits, rows, prior_of)),
        seed=first.seed,
        system_digest=digest(canonical([p.system_digest for p in systems.values()])),
    ), {"filled": filled, "fits": records}
