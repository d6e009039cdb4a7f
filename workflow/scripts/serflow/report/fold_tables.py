"""Scores of each fold, as tables of IEMOCAP's sessions or of unseen speakers print them."""

from __future__ import annotations

import pandas as pd

from serflow.metrics import METRICS
from serflow.report.formats import number
from serflow.report.paper_tables import PaperTable
from serflow.report.results import STAGES

SCOPE = "fold "  # what the scope of one fold's scores begins with; 'fold mean' is of all
MEAN = "fold mean"
SHOWN = ("wa", "uar", "macro_f1")


def fold_table(study: str, scores: pd.DataFrame) -> PaperTable | None:
    """Print WA, UA and macro-F1 of every fold, their mean and standard deviation.

    Parameters
    ----------
    study : str
    scores : DataFrame
        `tables.SCORES`.

    Returns
    -------
    PaperTable or None
        None where there is one fold.
    """
    folds = scores[
        scores["scope"].str.startswith(SCOPE)
        & (scores["scope"] != MEAN)
        & (scores["role"] == "test")
        & scores["metric"].isin(SHOWN)
    ]
    if folds.empty:
        return None
    keys = ["system", "stage", "scope"]
    wide = folds.groupby([*keys, "metric"], sort=False)["value"].mean().unstack()[list(SHOWN)]
    n = folds.groupby(keys, sort=False)["n"].first()
    lines = []
    order = {stage: i for i, stage in enumerate(STAGES)}
    pairs = sorted({(s, t) for s, t, _ in wide.index}, key=lambda p: (p[0], order[p[1]]))
    for system, stage in pairs:
        part = wide.loc[system, stage]
        head = {"system": system, "stage": stage}
        lines += [
            head
            | {"fold": scope.removeprefix(SCOPE), "n": str(n.loc[system, stage, scope])}
            | {METRICS[m].title: number(values[m]) for m in SHOWN}
            for scope, values in part.iterrows()
        ]
        for name, row in (("mean", part.mean()), ("standard deviation", part.std())):
            lines.append(
                head | {"fold": name, "n": ""} | {METRICS[m].title: number(row[m]) for m in SHOWN}
            )
    seeds = folds["seed"].nunique()
    notes = [("", METRICS[m].title + ": " + METRICS[m].definition) for m in SHOWN]
    notes.append(("", "Mean and standard deviation (n - 1) over folds, each weighing the same."))
    if seeds > 1:
        notes.append(("", f"Each value is the mean over {seeds} seeds."))
    return PaperTable(study, pd.DataFrame(lines).astype(str), notes)
