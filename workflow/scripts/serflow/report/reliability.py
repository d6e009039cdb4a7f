"""What the report says of posteriors as probabilities: reliability diagrams and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from serflow.reliability import RELIABILITY, reliability_curve
from serflow.report.formats import listing, number, percent
from serflow.report.headline import spread
from serflow.report.panels import MUTED, PAPER, STAGE_COLOURS, Axes, Figure, Panel, frame
from serflow.report.results import Results
from serflow.report.sections import Cell, Table

BINS = 10  # of the diagrams; scores have bins of their own, as their definitions say
MAPS = {
    "temperature": "one temperature",
    "vector": "a temperature and a bias for each class",
    "matrix": "a regularised matrix and biases (ODIR)",
    "isotonic": "isotonic regression, one class against the rest",
}


def scores_table(results: Results) -> Table:
    """Scores of the posteriors of every system and stage on test."""
    best = {
        name: min(results.score(*pair, "test", name).value for pair in results.tables)
        for name in RELIABILITY
    }
    rows: list[Sequence[str | Cell]] = []
    for system, stage in results.tables:
        row: list[str | Cell] = [Cell(system, stage)]
        for name in RELIABILITY:
            score = results.score(system, stage, "test", name)
            is_best = abs(score.value - best[name]) < 1e-12
            row.append(Cell(number(score.value), spread(score), is_best))
        rows.append(row)
    return Table(["System", *(metric.title for metric in RELIABILITY.values())], rows)


def calibration_note(results: Results) -> str:
    """How posteriors were calibrated, and on which rows."""
    settings = results.config.calibration
    if settings is None:
        return (
            "This study calibrates nothing: set `calibration` in its file to have a stage between "
            "raw and rebalanced posteriors."
        )
    on = "dev rows" if settings.fit_on == "dev" else "the test rows of other parts"
    told = f"Calibrated by {MAPS[settings.method]}, fitted on {on}."
    if settings.method != "temperature":
        return told
    told += " That changes no decision, so the tables of decisions have no calibrated posteriors."
    temperatures = [
        f"{system} {_range([fit['learnt']['temperature'] for fit in _fits(results, system)])}"
        for system in results.systems
    ]
    return (
        f"{told} Temperatures: {listing(temperatures)}; above 1 the posteriors were overconfident."
    )


def diagrams(results: Results) -> Figure:
    """How often the most probable class is right, over its posterior; a panel a system or fusion."""
    by_system: dict[str, list[str]] = {}
    for system, stage in results.tables:
        by_system.setdefault(system, []).append(stage)

    def panel(system: str, stages: list[str]) -> Panel:
        curves = {stage: _curve(results, system, stage) for stage in stages}

        def draw(ax: Axes) -> None:
            ax.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1)
            for stage, curve in curves.items():
                colour = STAGE_COLOURS[stage]
                ax.plot(
                    curve["confidence"], curve["accuracy"],
                    color=colour, lw=1.4, zorder=2, clip_on=False,
                )  # fmt: skip
                size = 10 + 130 * curve["n"] / curve["n"].sum()
                ax.scatter(
                    curve["confidence"], curve["accuracy"], s=size, color=colour,
                    edgecolor=PAPER, linewidth=0.8, zorder=3, clip_on=False,
                )  # fmt: skip
            ax.set_xlim(0, 1)
            ax.set_ylim(0, 1)
            ax.set_xlabel("posterior of the most probable class")
            ax.set_ylabel("share that is right")
            frame(ax, "both")
            ax.set_box_aspect(0.8)

        told = [
            f"{stage}: mean posterior {percent(float(_mean(c, 'confidence')), 1)}, right "
            f"{percent(float(_mean(c, 'accuracy')), 1)}"
            for stage, c in curves.items()
        ]
        return Panel(system, f"Reliability of {system}. {'; '.join(told)}.", 3.9, draw)

    return Figure("reliability", [panel(*item) for item in by_system.items()])


def _curve(results: Results, system: str, stage: str) -> pd.DataFrame:
    tables = [results.posteriors[seed, stage, system] for seed in results.seeds]
    test = [(table.rows["role"] == "test").to_numpy() for table in tables]
    log_proba = np.concatenate([t.log_proba[rows] for t, rows in zip(tables, test, strict=True)])
    labels = np.concatenate([t.labels[rows] for t, rows in zip(tables, test, strict=True)])
    curve = reliability_curve(log_proba, labels, BINS)
    return curve[curve["n"] > 0]


def _mean(curve: pd.DataFrame, column: str) -> float:
    return float(np.average(curve[column], weights=curve["n"]))


def _fits(results: Results, system: str) -> list[Mapping[str, Any]]:
    return [fit for seed in results.seeds for fit in results.calibrations[seed, system]["fits"]]


def _range(values: list[float]) -> str:
    return " to ".join(dict.fromkeys(number(v, 2) for v in (min(values), max(values))))
