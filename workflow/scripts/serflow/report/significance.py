"""The matrix of all pairs: which difference stands after correction for so many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from serflow.metrics import METRICS
from serflow.report.formats import DASH, p_value, signed
from serflow.report.results import Results
from serflow.report.sections import Cell, Table

LEVEL = 0.05
METRIC = "macro_f1"


def matrix(results: Results) -> Table | None:
    """Difference of the row's table from the column's, of every two of the last stages.

    Bold where the corrected paired bootstrap stays below 5 per cent. None where there is no pair.
    """
    tables = [pair for pair in results.tables if pair[1] in ("rebalanced", "fused")]
    if len(tables) < 2:
        return None
    compared = results.mean_comparisons()
    compared = compared[(compared["metric"] == METRIC) & (compared["role"] == "test")]
    found = {
        ((row.system, row.stage), (row.baseline, row.baseline_stage)): row
        for row in compared.itertuples()
    }
    several = len(results.seeds) > 1
    top = float(compared["difference"].abs().max()) or 1.0

    def cell(a: tuple[str, str], b: tuple[str, str]) -> str | Cell:
        row, sign = found.get((a, b)), 1
        if row is None:
            row, sign = found.get((b, a)), -1
        if row is None:
            return DASH
        difference = sign * row.difference
        share = round(float(np.clip(difference / top, -1, 1)), 3)
        if several:
            sure = max(row.above, row.below)
            return Cell(signed(difference), f"{sure} of {row.seeds} seeds", share=share)
        stands = not pd.isna(row.p_holm) and row.p_holm < LEVEL
        return Cell(signed(difference), f"p {p_value(row.p_holm)}", stands, share=share)

    rows: list[Sequence[str | Cell]] = [
        [Cell(*a), *(DASH if a == b else cell(a, b) for b in tables)] for a in tables
    ]
    return Table(["", *(name for name, _ in tables)], rows)


def note(results: Results) -> str:
    """What the cells of the matrix say."""
    title = METRICS[METRIC].title
    text = f"{title} on test of the row less that of the column, rebalanced systems and fusions."
    if len(results.seeds) > 1:
        return f"{text} In how many seeds the interval lies beside zero."
    return (
        f"{text} p of the paired bootstrap, corrected by Holm for all {len(results.comparisons)} "
        "comparisons of this study; bold where it is below 5%."
    )
