"""Which point of a grid is taken, by the scores of the folds on rows that may choose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serflow.errors import UserError
from serflow.metrics import METRICS, confusion
from serflow.posteriors import Posteriors

ROLES = {"dev": "dev", "cross_validation": "test"}


def fold_score(posteriors: Posteriors, choose_on: str, objective: str) -> tuple[float, int]:
    """The objective of one fold on the rows that may choose, and how many these are.

    Parameters
    ----------
    posteriors : Posteriors
        Of one fold.
    choose_on : {"dev", "cross_validation"}
    objective : str
        Key in `METRICS`; higher is better.
    """
    chosen = (posteriors.rows["role"] == ROLES[choose_on]).to_numpy()
    if not chosen.any():
        raise UserError(f"the fold has no {ROLES[choose_on]} rows to choose a point of a grid on")
    decided = posteriors.log_proba[chosen].argmax(axis=1)
    counts = confusion(posteriors.labels[chosen], decided, len(posteriors.classes))
    return float(METRICS[objective](counts)), int(chosen.sum())


def choose(scores: Mapping[str, Mapping[str, float]], choose_on: str) -> dict[str, Any]:
    """The point of each fold, and the one for a training on all rows.

    Parameters
    ----------
    scores : mapping of str to mapping of str to float
        Point -> fold -> score; every point has the same folds.
    choose_on : {"dev", "cross_validation"}

    Returns
    -------
    dict
        `mean` (point -> mean over folds), `final` (the point with the highest mean) and `folds`
        (fold -> point): under 'dev' each fold's own best, so that its dev rows alone choose it;
        under 'cross_validation' the final one for all. Of equally good points the first is taken.

    Examples
    --------
    >>> chosen = choose({"a": {"0": 0.5, "1": 0.9}, "b": {"0": 0.6, "1": 0.7}}, "dev")
    >>> chosen["final"], chosen["folds"]
    ('a', {'0': 'b', '1': 'a'})
    """
    mean = {point: float(np.mean(list(by_fold.values()))) for point, by_fold in scores.items()}
    final = max(mean, key=mean.__getitem__)
    folds = list(next(iter(scores.values())))
    if choose_on == "dev":
        taken = {fold: max(scores, key=lambda point: scores[point][fold]) for fold in folds}
    else:
        taken = dict.fromkeys(folds, final)
    return {"mean": mean, "final": final, "folds": taken}


def chosen_point(scored: str | None) -> dict[str, Any]:
    """The values that a training on all rows takes, from the JSON of a grid; none without one."""
    if scored is None:
        return {}
    grid = json.loads(Path(scored).read_text(encoding="utf-8"))
    return grid["points"][grid["final"]]
