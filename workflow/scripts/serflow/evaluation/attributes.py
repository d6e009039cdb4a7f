"""How well predicted attributes agree with the raters' own."""

from __future__ import annotations

from typing import Any

import numpy as np

from serflow.attributes import Attributes
from serflow.concordance import DEFINITIONS, concordance_intervals
from serflow.evaluation.rows import Evaluation, scope


def score_attributes(
    evaluation: Evaluation, attributes: Attributes, system: str, stage: str
) -> list[dict[str, Any]]:
    """CCC of each attribute and their mean, for dev rows and test rows that are rated.

    Parameters
    ----------
    evaluation : Evaluation
    attributes : Attributes
        Of one seed.
    system, stage : str
        What its rows are called.

    Returns
    -------
    list of dict
        Rows of `tables.SCORES`, pooled over folds.
    """
    rows = []
    rated = ~np.isnan(attributes.reference).any(axis=1)
    for role in ("dev", "test"):
        chosen = (attributes.rows["role"] == role).to_numpy() & rated
        if not chosen.any():
            continue
        each, mean = concordance_intervals(
            attributes.reference[chosen],
            attributes.predicted[chosen],
            seed=evaluation.seed,
            clusters=evaluation.clusters(attributes.rows["utterance_id"][chosen]),
            resamples=evaluation.resamples,
        )
        found = [("ccc", name, each.at((i,))) for i, name in enumerate(attributes.scale.names)]
        for metric, label, value in [*found, ("mean_ccc", "", mean)]:
            definition = f"{DEFINITIONS[metric]} {scope(attributes)}"
            rows.append(
                evaluation.row(
                    attributes.seed, system, stage, role, metric, [label, ""], definition, value
                )
            )
    return rows
