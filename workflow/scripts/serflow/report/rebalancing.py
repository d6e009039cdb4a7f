"""What the report says of rebalancing: how sensitive it is to the target, what each class gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serflow.metrics import METRICS
from serflow.posteriors import Posteriors
from serflow.prior_sensitivity import EXPONENTS, class_effects, prior_sensitivity
from serflow.report.formats import DASH, count, number, percent, signed
from serflow.report.panels import INK, MUTED, PAPER, STAGE_COLOURS, Axes, Figure, Panel, frame
from serflow.report.results import Results
from serflow.report.sections import Cell, Table

METRIC = "macro_f1"


def sensitivity(results: Results) -> Figure:
    """Macro-F1 on test over how far posteriors are shifted towards the target prior and beyond.

    A panel a system. Systems whose target leaves a class out have none: there is no way there.
    """
    title = METRICS[METRIC].title
    panels = []
    for system in results.systems:
        curves = [_curve(results, seed, system) for seed in results.seeds]
        if any(curve is None for curve in curves):
            continue
        panels.append(_panel(system, title, np.array(curves)))
    nothing = "No system's posteriors can be moved on the way to the target prior and beyond."
    return Figure("sensitivity", panels, nothing)


def effects_table(results: Results, system: str) -> Table:
    """What rebalancing does to each class of one system on test, means over seeds."""
    found = []
    for seed in results.seeds:
        before, after = (
            _test(results, seed, results.config.stages[-2], system),
            _test(results, seed, "rebalanced", system),
        )
        found.append(class_effects(before[0], after[0], after[1], results.classes))
    rows: list[Sequence[str | Cell]] = []
    for i, label in enumerate(results.classes):
        row: list[str | Cell] = [label, count(found[0]["n"][i])]
        for name in ("recall", "precision", "f1"):
            was, now = (
                float(np.mean([table[f"{name}_{stage}"][i] for table in found]))
                for stage in ("raw", "rebalanced")
            )
            row += [number(was), _change(was, now)]
        was, now = (
            float(np.mean([table[f"predicted_{stage}"][i] for table in found]))
            for stage in ("raw", "rebalanced")
        )
        row += [percent(was, 1), percent(now, 1)]
        rows.append(row)
    groups = [("", 2), ("Recall", 2), ("Precision", 2), ("F1", 2), ("Share predicted", 2)]
    pair = ["Before", "Change"]
    return Table(["Class", "n", *pair * 3, "Before", "After"], rows, 1, groups)


def _change(was: float, now: float) -> str | Cell:
    if np.isnan(was) or np.isnan(now):
        return DASH
    return Cell(signed(now - was), share=round(float(np.clip(now - was, -1, 1)), 3))


def _test(
    results: Results, seed: int, stage: str, system: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-posteriors, labels and the prior that each row expresses, of the test rows."""
    table: Posteriors = results.posteriors[seed, stage, system]
    test = (table.rows["role"] == "test").to_numpy()
    priors = np.array([table.priors[fold] for fold in table.rows["fold"][test]])
    return table.log_proba[test], table.labels[test], priors


def _curve(results: Results, seed: int, system: str) -> np.ndarray | None:
    log_proba, labels, priors = _test(results, seed, results.config.stages[-2], system)
    _, _, target = _test(results, seed, "rebalanced", system)
    if ((priors > 0) != (target > 0)).any():
        return None
    return prior_sensitivity(log_proba, labels, priors, target, metric=METRIC)


def _panel(system: str, title: str, curves: np.ndarray) -> Panel:
    mean = curves.mean(axis=0)
    at = {a: float(mean[np.abs(EXPONENTS - a).argmin()]) for a in (0.0, 1.0)}
    best = float(EXPONENTS[mean.argmax()])

    def draw(ax: Axes) -> None:
        for curve in curves if len(curves) > 1 else []:
            ax.plot(EXPONENTS, curve, color=MUTED, lw=0.7)
        ax.plot(EXPONENTS, mean, color=INK, lw=1.6)
        for where, stage in ((0.0, "raw"), (1.0, "rebalanced")):
            colour = STAGE_COLOURS[stage]
            ax.plot([where], [at[where]], "o", ms=7, color=colour, mec=PAPER, mew=0.8, zorder=3)
        ax.set_xlim(EXPONENTS[0], EXPONENTS[-1])
        ax.set_xlabel("shift: 0 none, 1 to the target, 2 as far again")
        ax.set_ylabel(f"{title}, test")
        frame(ax, "both")

    alt = (
        f"{title} of {system} on test over the shift of the prior: {number(at[0.0])} without, "
        f"{number(at[1.0])} at the target, highest {number(float(mean.max()))} at {best:g}."
    )
    return Panel(system, alt, 2.8, draw)
