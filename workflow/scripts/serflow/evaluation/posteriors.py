"""Every metric of a posteriors table: pooled over folds, as a mean of folds, and fold by fold."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from serflow.equal_error import EER, equal_error_interval
from serflow.evaluation.rows import Evaluation, scope
from serflow.fold_intervals import fold_mean_interval
from serflow.intervals import bootstrap_intervals
from serflow.metrics import METRICS, confusion
from serflow.posteriors import Posteriors
from serflow.reliability import RELIABILITY, reliability_interval

Row = Callable[..., dict[str, Any]]  # `Evaluation.row` of one table and one role


def score_posteriors(
    evaluation: Evaluation, posteriors: Posteriors, system: str, stage: str
) -> list[dict[str, Any]]:
    """Every metric of one table, for its dev rows and its test rows.

    Parameters
    ----------
    evaluation : Evaluation
    posteriors : Posteriors
        Of one seed.
    system, stage : str
        What its rows are called.

    Returns
    -------
    list of dict
        Rows of `tables.SCORES`: pooled over folds; where there are several folds, their mean and each
        alone as well.
    """
    rows = []
    hypothesis = posteriors.log_proba.argmax(axis=1)
    pooled = scope(posteriors)
    for role in ("dev", "test"):
        chosen = (posteriors.rows["role"] == role).to_numpy()
        if not chosen.any():
            continue
        reference = posteriors.labels[chosen]
        clusters = evaluation.clusters(posteriors.rows["utterance_id"][chosen])
        intervals = bootstrap_intervals(
            reference,
            hypothesis[chosen],
            len(posteriors.classes),
            list(METRICS),
            seed=evaluation.seed,
            clusters=clusters,
            resamples=evaluation.resamples,
        )
        row = partial(evaluation.row, posteriors.seed, system, stage, role)
        for metric in METRICS.values():
            found = intervals[metric.name]
            for cell in np.ndindex(np.shape(found.value)):
                labels = [*(posteriors.classes[i] for i in cell), "", ""][:2]
                definition = f"{metric.definition} {pooled}"
                rows.append(row(metric.name, labels, definition, found.at(cell)))
        rows += _of_posteriors(evaluation, row, posteriors, chosen, clusters)
        rows += _fold_means(evaluation, row, posteriors, chosen)
    return rows


def _of_posteriors(
    evaluation: Evaluation,
    row: Row,
    posteriors: Posteriors,
    chosen: np.ndarray,
    clusters: np.ndarray | None,
) -> list[dict[str, Any]]:
    """What depends on the posteriors themselves, not on decisions alone."""
    log_proba, reference = posteriors.log_proba[chosen], posteriors.labels[chosen]
    how = {"seed": evaluation.seed, "clusters": clusters, "resamples": evaluation.resamples}
    found = {EER.name: equal_error_interval(log_proba, reference, **how)}
    found |= reliability_interval(log_proba, reference, **how)
    definitions = {EER.name: EER.definition}
    definitions |= {name: metric.definition for name, metric in RELIABILITY.items()}
    pooled = scope(posteriors)
    return [
        row(name, ["", ""], f"{definitions[name]} {pooled}", interval)
        for name, interval in found.items()
    ]


def _fold_means(
    evaluation: Evaluation, row: Row, posteriors: Posteriors, chosen: np.ndarray
) -> list[dict[str, Any]]:
    """Each fold's scores and their mean, where there are several: not those of pooled counts."""
    folds = posteriors.rows["fold"].to_numpy()
    names = [fold for fold in dict.fromkeys(folds) if (chosen & (folds == fold)).any()]
    if len(names) < 2:
        return []
    hypothesis = posteriors.log_proba.argmax(axis=1)
    counts = np.stack(
        [
            confusion(posteriors.labels[rows], hypothesis[rows], len(posteriors.classes))
            for rows in (chosen & (folds == fold) for fold in names)
        ]
    )
    interval = f"95% percentile bootstrap over {len(names)} folds, {evaluation.resamples} resamples"
    rows = []
    for metric in METRICS.values():
        if metric.class_axes:
            continue
        found = fold_mean_interval(
            counts, metric.name, seed=evaluation.seed, resamples=evaluation.resamples
        )
        definition = f"{metric.definition} Mean over {len(names)} folds, each weighing the same."
        mean = row(metric.name, ["", ""], definition, found)
        n = int(counts.sum())
        rows.append(mean | {"scope": "fold mean", "interval": interval, "n": n})
        rows += [
            mean
            | {
                "scope": f"fold {name}",
                "definition": f"{metric.definition} Fold {name} alone.",
                "value": float(metric(own)),
                "low": None,
                "high": None,
                "interval": None,
                "n": int(own.sum()),
            }
            for name, own in zip(names, counts, strict=True)
        ]
    return rows
