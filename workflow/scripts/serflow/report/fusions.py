"""What the report says of fusions: what each learnt, and whether that held beyond the fit rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serflow.metrics import METRICS
from serflow.report.formats import count, listing, number, signed
from serflow.report.results import Results
from serflow.report.sections import Cell, Table

METHODS = {
    "linear_interpolation": "Linear interpolation",
    "log_linear_interpolation": "Log-linear interpolation (weighted geometric mean)",
    "logistic_regression": "Multinomial logistic regression",
    "mean": "Unweighted mean",
    "majority": "Majority vote, ties to the higher mean posterior,",
}


@dataclass(frozen=True)
class Fusion:
    """What a fusion learnt.

    Attributes
    ----------
    name, method : str
    weights : Table or None
        None for one that learns nothing.
    fits : int
        How often it was fitted.
    curve : str
        The interpolation curve as SVG, or empty.
    """

    name: str
    method: str
    weights: Table | None
    fits: int
    curve: str = ""


def section(results: Results, curves: Mapping[str, str]) -> list[Fusion]:
    """Every fusion of the study, over all its fits and seeds."""
    found = []
    for name in _names(results):
        settings, fits = _fits(results, name)
        of = f"{settings['stage']} posteriors of {listing(settings['systems'])}"
        method, table = f"{METHODS[settings['method']]} of the {of}.", None
        if "objective" in settings:
            step = settings["step"]
            grid = "the best of all" if step == "exact" else f"from a grid with step {step:g}"
            title = _title(settings["objective"])
            method = (
                f"{METHODS[settings['method']]} of the {of}; weights {grid}, chosen by {title}."
            )
            table = _weights(settings["systems"], fits)
        elif "C" in settings:
            strengths = sorted({fit["C"] for fit in fits})
            taken = " to ".join(f"{c:.3g}" for c in dict.fromkeys([strengths[0], strengths[-1]]))
            inner = " by inner cross-validation" if settings["C"] == "cross_validated" else ""
            method = (
                f"{METHODS[settings['method']]} on the {of}; L2 penalty, C = {taken}{inner}. "
                "Coefficients are means over fits."
            )
            table = _coefficients(results, settings["systems"], fits)
        said = [method, _fitted(settings, fits), _filled(results, name)]
        found.append(
            Fusion(name, " ".join(filter(None, said)), table, len(fits), curves.get(name, ""))
        )
    return found


def gaps_table(results: Results) -> Table | None:
    """Macro-F1 of each fusion on the rows it was fitted on and on the test rows.

    A single system has a gap of its own, as dev and test differ; what a fusion loses beyond the best
    of its systems is overfitting. None where no fusion is fitted.
    """
    rows: list[Sequence[str | Cell]] = []
    for name in _names(results):
        settings, fits = _fits(results, name)
        if not fits:
            continue
        fitted = float(np.mean([fit["macro_f1"] for fit in fits]))
        test = results.score(name, "fused", "test", "macro_f1").value
        alone = {s: float(np.mean([fit["alone"][s] for fit in fits])) for s in settings["systems"]}
        best = max(alone, key=alone.__getitem__)
        single = results.score(best, settings["stage"], "test", "macro_f1").value
        gap, other = test - fitted, single - alone[best]
        rows.append(
            [
                name,
                number(fitted),
                number(test),
                Cell(signed(gap), share=round(float(np.clip(10 * min(gap, 0), -1, 0)), 3)),
                Cell(number(alone[best]), best),
                number(single),
                signed(other),
                signed(gap - other),
            ]
        )
    if not rows:
        return None
    groups = [("", 1), ("Fusion", 3), ("Best system on the fit rows", 3), ("", 1)]
    gap = ["Fit rows", "Test", "Gap"]
    return Table(["Fusion", *gap, *gap, "Gap beyond it"], rows, 1, groups)


def _names(results: Results) -> list[str]:
    return list(dict.fromkeys(name for _, name in results.fusions))


def _fits(results: Results, name: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    runs = [results.fusions[seed, name] for seed in results.seeds]
    return runs[0]["settings"], [fit for run in runs for fit in run["fits"]]


def _title(objective: str) -> str:
    return METRICS[objective].title if objective in METRICS else objective.upper()


def _fitted(settings: Mapping[str, Any], fits: list[Mapping[str, Any]]) -> str:
    if not fits:
        return "Nothing is fitted."
    parts = "folds" if not fits[0]["part"].startswith("part-") else "parts, which share no speaker,"
    on = "the dev rows" if settings["fit_on"] == "dev" else f"the test rows of the other {parts}"
    rows = sorted({fit["n"] for fit in fits})
    told = " to ".join(map(count, dict.fromkeys([rows[0], rows[-1]])))
    scores = sorted(fit["macro_f1"] for fit in fits)
    reached = " to ".join(dict.fromkeys(number(score, 3) for score in (scores[0], scores[-1])))
    times = "once" if len(fits) == 1 else f"{len(fits)} times"
    return f"Fitted {times} on {on} ({told} rows), with Macro-F1 {reached} there."


def _filled(results: Results, name: str) -> str:
    lacking = {
        system: n
        for seed in results.seeds
        for system, n in results.fusions[seed, name].get("filled", {}).items()
    }
    if not lacking:
        return ""
    told = listing([f"{system} {count(n)}" for system, n in lacking.items()])
    return f"Utterances that a system lacks are given its prior, as declared: {told}."


def _weights(systems: list[str], fits: list[Mapping[str, Any]]) -> Table:
    weights = np.array([fit["weights"] for fit in fits])
    rows = [
        [
            system,
            Cell(number(w.mean(), 2), share=round(float(w.mean()), 3)),
            number(w.min(), 2),
            number(w.max(), 2),
        ]
        for system, w in zip(systems, weights.T, strict=True)
    ]
    return Table(["System", "Mean weight", "Lowest", "Highest"], rows)


def _coefficients(results: Results, systems: list[str], fits: list[Mapping[str, Any]]) -> Table:
    coef = np.mean([fit["coef"] for fit in fits], axis=0)
    intercept = np.mean([fit["intercept"] for fit in fits], axis=0)
    outputs = list(results.classes)
    if len(coef) < len(outputs):  # two classes: one row of log-odds
        outputs = [f"{outputs[1]} against {outputs[0]}"]
    top = np.abs(coef).max() or 1.0
    rows = [
        [
            output,
            *(Cell(signed(c, 2), share=round(float(c / top), 3)) for c in row),
            signed(constant, 2),
        ]
        for output, row, constant in zip(outputs, coef, intercept, strict=True)
    ]
    columns = ["Class", *list(results.classes) * len(systems), "Constant"]
    groups = [("", 1), *((system, len(results.classes)) for system in systems), ("", 1)]
    return Table(columns, rows, 1, groups)
