"""What the report says of grids: every point's score on the rows that chose, and what was taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serflow.metrics import METRICS
from serflow.report.formats import DASH, count, number, plural
from serflow.report.results import Results
from serflow.report.sections import Cell, Table

ROWS = {"dev": "dev rows", "cross_validation": "the folds' test rows"}


@dataclass(frozen=True)
class Grid:
    """One system's grid.

    Attributes
    ----------
    system, told : str
    table : Table
        A row a point, best first.
    heat : Table or None
        The mean over two keys, where there are two with several values.
    """

    system: str
    told: str
    table: Table
    heat: Table | None


def section(results: Results) -> list[Grid]:
    """Every grid of the study, over all seeds."""
    systems = dict.fromkeys(system for _, system in results.grids)
    return [
        _grid(system, [g for (_, name), g in results.grids.items() if name == system])
        for system in systems
    ]


def _grid(system: str, runs: list[Mapping[str, Any]]) -> Grid:
    first = runs[0]
    title = METRICS[first["objective"]].title
    points: Mapping[str, Mapping[str, Any]] = first["points"]
    scores = {p: [s for run in runs for s in run["scores"][p].values()] for p in points}
    taken = Counter(point for run in runs for point in run["folds"].values())
    folds = len(first["folds"])
    chosen = (
        "each fold takes the point that is best on its own"
        if first["choose_on"] == "dev"
        else "one point is taken for all folds, so that their scores are those of the best of "
        f"{len(points)} on the very rows that chose it: optimistic"
    )
    told = (
        f"{plural(len(points), 'point')}, {plural(folds, 'fold')} and {plural(len(runs), 'seed')} "
        f"each; {title} on {ROWS[first['choose_on']]} chooses: {chosen}."
    )
    means = {point: float(np.mean(values)) for point, values in scores.items()}
    order = sorted(points, key=lambda point: -means[point])
    low, high = min(means.values()), max(means.values())
    rows = [
        [
            *(_value(points[point][key]) for key in first["over"]),
            Cell(
                number(means[point]),
                f"± {number(np.std(scores[point], ddof=1))}" if len(scores[point]) > 1 else "",
                best=means[point] == high,
                share=_shade(means[point], low, high),
            ),
            count(taken[point]) if taken[point] else DASH,
        ]
        for point in order
    ]
    keys = [key.rpartition(".")[2].replace("_", " ") for key in first["over"]]
    table = Table([*keys, title, "Taken by folds"], rows, len(keys))
    return Grid(system, told, table, _heat(first, means))


def _heat(grid: Mapping[str, Any], means: Mapping[str, float]) -> Table | None:
    """Means over the first two keys that vary, averaged over any others."""
    values = {
        key: list(dict.fromkeys(point[key] for point in grid["points"].values()))
        for key in grid["over"]
    }
    varying = [key for key, found in values.items() if len(found) > 1]
    if len(varying) < 2:
        return None
    down, across = varying[:2]

    def cell(x: Any, y: Any) -> float:
        alike = [
            means[name]
            for name, point in grid["points"].items()
            if point[down] == x and point[across] == y
        ]
        return float(np.mean(alike))

    cells = [[cell(x, y) for y in values[across]] for x in values[down]]
    low, high = np.min(cells), np.max(cells)
    rows = [
        [_value(x), *(Cell(number(v), share=_shade(v, low, high)) for v in row)]
        for x, row in zip(values[down], cells, strict=True)
    ]
    names = [key.rpartition(".")[2].replace("_", " ") for key in (down, across)]
    groups = [(names[0], 1), (names[1], len(values[across]))]
    return Table(["", *map(_value, values[across])], rows, 1, groups)


def _shade(value: float, low: float, high: float) -> float:
    return round((value - low) / (high - low), 3) if high > low else 0.0


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
