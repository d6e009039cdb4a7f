"""Whether the systems of a study differ: paired intervals and tests, corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from serflow.errors import UserError, name_some
from serflow.evaluation.rows import Evaluation
from serflow.posteriors import Posteriors
from serflow.significance import holm, paired_tests

Table = tuple[str, str]  # stage and system


def compare(
    evaluation: Evaluation,
    tables: Mapping[Table, Posteriors],
    metric: str = "macro_f1",
    twins: Sequence[tuple[str, str]] = (),
) -> list[dict[str, Any]]:
    """Paired bootstrap on the test rows of one seed.

    Rebalanced against raw, calibrated against raw where it decides otherwise, fused against every
    single table, the systems of a pair against each other, and every two tables of the last stages.
    Of each the paired bootstrap and McNemar's test; p-values once as they are and once corrected, by
    Holm, for all these comparisons together.

    Parameters
    ----------
    evaluation : Evaluation
    tables : mapping of (stage, system) to Posteriors
        Of one seed.
    metric : str
    twins : sequence of (system, system)
        Systems that differ in one thing: `StudyConfig.transcript_twins`.

    Returns
    -------
    list of dict
        Rows of `tables.COMPARISONS`.

    Raises
    ------
    UserError
        A table lacks test rows that the other one has, or rows have no speaker to resample by.
    """
    tested = {table: _test_rows(posteriors) for table, posteriors in tables.items()}
    rows = [
        {
            "study": evaluation.study,
            "seed": tables[a].seed,
            "role": "test",
            "metric": metric,
            "system": a[1],
            "stage": a[0],
            "baseline": b[1],
            "baseline_stage": b[0],
        }
        | _difference(evaluation, tested, a, b, len(tables[a].classes), metric)
        for a, b in _pairs(tested, twins)
    ]
    for p in ("p", "mcnemar_p"):
        adjusted = holm([row[p] for row in rows])
        for row, value in zip(rows, adjusted, strict=True):
            row[f"{p}_holm"] = float(value)
    return rows


def _pairs(
    tested: Mapping[Table, pd.DataFrame], twins: Sequence[tuple[str, str]]
) -> list[tuple[Table, Table]]:
    """Which tables are compared with which."""
    pairs = [
        ((s, n), ("raw", n))
        for s, n in tested
        if s == "rebalanced" or (s == "calibrated" and _decide_apart(tested, s, n))
    ]
    pairs += [
        ((s, n), other)
        for s, n in tested
        if s == "fused"
        for other in tested
        if other[0] in ("raw", "rebalanced")
    ]
    pairs += [
        ((stage, name), (stage, other))
        for name, other in twins
        for stage in ("raw", "rebalanced")
        if (stage, name) in tested
    ]
    # Of the last stages all pairs, for the matrix; the better known order of two comes first.
    last = [pair for pair in tested if pair[0] in ("rebalanced", "fused")]
    known = {frozenset(pair) for pair in pairs}
    pairs += [pair for pair in combinations(last, 2) if frozenset(pair) not in known]
    return pairs


def _difference(
    evaluation: Evaluation,
    tested: Mapping[Table, pd.DataFrame],
    a: Table,
    b: Table,
    n_classes: int,
    metric: str,
) -> dict[str, Any]:
    first = tested[a]
    second = tested[b].reindex(first.index)
    if second["hypothesis"].isna().any():
        lost = second.index[second["hypothesis"].isna()]
        raise UserError(f"{b} lacks test rows that {a} has: {name_some(lost)}")
    tests = paired_tests(
        first["label"],
        first["hypothesis"],
        second["hypothesis"].astype(int),
        n_classes,
        metric,
        seed=evaluation.seed,
        clusters=evaluation.clusters(first.index.get_level_values(0)),
        resamples=evaluation.resamples,
    )
    return tests | {"interval": f"paired {evaluation.interval}"}


def _decide_apart(tested: Mapping[Table, pd.DataFrame], stage: str, system: str) -> bool:
    """Whether a stage decides any test row otherwise than the raw posteriors."""
    mine = tested[stage, system]["hypothesis"]
    return not mine.equals(tested["raw", system]["hypothesis"])


def _test_rows(posteriors: Posteriors) -> pd.DataFrame:
    frame = posteriors.rows[["utterance_id", "fold", "role"]].assign(
        label=posteriors.labels, hypothesis=posteriors.log_proba.argmax(axis=1)
    )
    return frame[frame["role"] == "test"].set_index(["utterance_id", "fold"])
