"""What the report says of predicted attributes: agreement with the raters, and how it looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serflow.attributes import Attributes
from serflow.concordance import TITLES
from serflow.report.formats import DASH, count, number, plural
from serflow.report.fusions import Fusion
from serflow.report.headline import spread
from serflow.report.panels import INK, LINE, MUTED, Axes, Figure, Panel, frame
from serflow.report.results import Results
from serflow.report.sections import Cell, Table, paper_value

BINS = 24  # of each axis of a panel
DOTS = 400  # up to so many utterances are drawn one by one


@dataclass(frozen=True)
class Section:
    """All of it.

    Attributes
    ----------
    table : Table
    sources : list of str
        Of the published values.
    figure : Figure
    unrated : int
        Test utterances without a rating, which count nowhere.
    fusions : list of Fusion
    """

    table: Table
    sources: list[str]
    figure: Figure
    unrated: int
    fusions: list[Fusion]


def section(results: Results) -> Section | None:
    """None for a study whose systems predict no attributes."""
    if not results.attributes:
        return None
    sources: list[str] = []
    first = next(iter(results.attributes.values()))
    unrated = np.isnan(first.reference[_test(first)]).any(axis=1).sum()
    return Section(
        table(results, sources), sources, figure(results), int(unrated), fusions(results)
    )


def table(results: Results, sources: list[str]) -> Table:
    """CCC of every system: each attribute, then their mean; test beside dev."""
    names = list(next(iter(results.attributes.values())).scale.names)
    columns = [*(("ccc", name) for name in names), ("mean_ccc", "")]
    pairs = list(dict.fromkeys((system, stage) for _, stage, system in results.attributes))
    found = {
        (pair, role, column): results.score(*pair, role, *column)
        for pair in pairs
        for role in ("test", "dev")
        for column in columns
    }
    has_dev = any(found[pair, "dev", columns[-1]] is not None for pair in pairs)
    roles = ["test", "dev"] if has_dev else ["test"]
    best = {
        column: max(
            (x.value for pair in pairs if (x := found[pair, "test", column]) is not None),
            default=None,
        )
        for column in columns
    }
    rows: list[list[str | Cell]] = []
    for pair in pairs:
        row: list[str | Cell] = [Cell(*pair)]
        for column in columns:
            for role in roles:
                score = found[pair, role, column]
                if score is None:
                    row.append(DASH)
                    continue
                leads = role == "test" and len(pairs) > 1 and score.value == best[column]
                row.append(
                    Cell(number(score.value), spread(score), leads, paper_value(score, sources))
                )
        whole = [found[pair, role, columns[-1]] for role in roles]
        rows.append([*row, *(DASH if x is None else count(x.n) for x in whole)])
    titles = [role.capitalize() for role in roles]
    groups = [("", 1), *((f"{TITLES['ccc']}, {name}", len(roles)) for name in names)]
    groups += [(TITLES["mean_ccc"], len(roles)), ("n", len(roles))]
    return Table(["System", *titles * (len(columns) + 1)], rows, 1, groups)


def fusions(results: Results) -> list[Fusion]:
    """The weights of every fusion, means over its fits."""
    found = []
    for name in dict.fromkeys(name for _, name in results.attribute_fusions):
        runs = [run for (_, fused), run in results.attribute_fusions.items() if fused == name]
        settings, fits = runs[0]["settings"], [fit for run in runs for fit in run["fits"]]
        on = "the dev rows" if settings["fit_on"] == "dev" else "the other folds' test rows"
        told = (
            f"Linear interpolation, for each attribute with weights of its own from a grid with step "
            f"{settings['step']:g}, chosen by {TITLES['ccc']} on {on}"
            f"{f'; means over {len(fits)} fits' if len(fits) > 1 else ''}."
        )
        weights = {
            attribute: np.mean([fit["weights"][attribute] for fit in fits], axis=0)
            for attribute in fits[0]["weights"]
        }
        rows = [
            [
                system,
                *(Cell(number(w[i], 2), share=round(float(w[i]), 3)) for w in weights.values()),
            ]
            for i, system in enumerate(settings["systems"])
        ]
        found.append(Fusion(name, told, Table(["System", *weights], rows), len(fits)))
    return found


def figure(results: Results) -> Figure:
    """Predictions over references on test, of the first seed: a panel a table and attribute."""
    seed = results.seeds[0]
    panels = [
        _panel(results, system, stage, attributes, name)
        for (found, stage, system), attributes in results.attributes.items()
        if found == seed
        for name in attributes.scale.names
    ]
    return Figure("attributes", panels)


def _panel(results: Results, system: str, stage: str, attributes: Attributes, name: str) -> Panel:
    scale, column = attributes.scale, attributes.scale.names.index(name)
    chosen = _test(attributes) & ~np.isnan(attributes.reference).any(axis=1)
    reference = attributes.reference[chosen, column]
    predicted = attributes.predicted[chosen, column]

    def draw(ax: Axes) -> None:
        ends = (scale.low, scale.high)
        if len(reference) <= DOTS:
            ax.plot(reference, predicted, "o", ms=4, color=INK, alpha=0.5, mew=0, clip_on=False)
        else:
            counts, *edges = np.histogram2d(reference, predicted, BINS, [ends, ends])
            # A square for each cell, its area the share of the fullest: scales in SVG as dots do.
            x, y = np.meshgrid(*(edge[:-1] + np.diff(edge) / 2 for edge in edges), indexing="ij")
            there = counts > 0
            size = 40 * counts[there] / counts.max()
            ax.scatter(x[there], y[there], s=size, marker="s", color=INK, lw=0)
        ax.plot(ends, ends, color=MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1)
        ax.set_xlim(*ends)
        ax.set_ylim(*ends)
        ax.set_aspect("equal")
        ax.set_xlabel("Raters")
        ax.set_ylabel("Prediction")
        frame(ax, "both")
        ax.axhline(scale.low, color=LINE, lw=0.7)

    score = results.score(system, stage, "test", "ccc", name)
    told = "no rated test rows" if score is None else f"CCC {number(score.value)}"
    return Panel(
        f"{system}, {name}",
        f"{name.capitalize()} predicted by {system} over the raters' on "
        f"{plural(len(reference), 'test utterance')}: {told}.",
        4.2,
        draw,
    )


def _test(attributes: Attributes) -> np.ndarray:
    return (attributes.rows["role"] == "test").to_numpy()
