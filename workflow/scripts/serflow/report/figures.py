"""The figures that every study's report has."""

from __future__ import annotations

import numpy as np

from serflow.metrics import METRICS
from serflow.report import rebalancing, reliability
from serflow.report.formats import listing, number, percent, plural
from serflow.report.headline import with_spread
from serflow.report.panels import INK, MUTED, PAPER, STAGE_COLOURS, Axes, Figure, Panel, frame
from serflow.report.results import Results, priors_of


def draw_all(results: Results) -> dict[str, Figure]:
    """Every figure of the report by its name."""
    figures = [
        scores(results),
        confusions(results),
        priors(results),
        interpolation(results),
        reliability.diagrams(results),
        rebalancing.sensitivity(results),
    ]
    return {figure.name: figure for figure in figures}


def scores(results: Results) -> Figure:
    """Macro-F1 and UA of every system and stage, with intervals; dev rows hollow."""
    names = [
        f"{system}, {stage}" if stage != "fused" else system for system, stage in results.deciding
    ]
    limits = _limits(results, ("macro_f1", "uar"))

    def panel(metric: str) -> Panel:
        def draw(ax: Axes) -> None:
            for y, (system, stage) in enumerate(results.deciding):
                score = results.score(system, stage, "test", metric)
                colour = STAGE_COLOURS[stage]
                low, high = _ends(score)
                ax.plot([low, high], [y, y], color=colour, lw=1.6, solid_capstyle="round", zorder=2)
                ax.plot([score.value], [y], "o", ms=6, color=colour, mec=PAPER, mew=0.8, zorder=3)
                dev = results.score(system, stage, "dev", metric)
                if dev is not None:
                    ax.plot([dev.value], [y], "o", ms=4.5, mfc="none", mec=colour, zorder=2)
                if not np.isnan(score.paper):
                    ax.plot([score.paper], [y], "D", ms=4, mfc="none", mec=INK, zorder=2)
            if metric == "uar":
                ax.axvline(1 / len(results.classes), color=MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1)
            ax.set_yticks(range(len(names)), names)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_xlim(*limits)
            frame(ax, "x")

        told = [
            f"{name} {with_spread(results.score(*pair, 'test', metric))}"
            for name, pair in zip(names, results.deciding, strict=True)
        ]
        title = METRICS[metric].title
        return Panel(f"{title}, test", f"{title} on test: {listing(told)}.", _rows(names), draw)

    return Figure("scores", [panel("macro_f1"), panel("uar")])


def confusions(results: Results) -> Figure:
    """Row shares of the test confusion matrix of every table."""
    classes = list(results.classes)

    def panel(system: str, stage: str) -> Panel:
        counts = results.confusion(system, stage)
        total = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)

        def draw(ax: Axes) -> None:
            ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            for (row, column), share in np.ndenumerate(shares):
                colour = PAPER if share > 0.55 else INK
                ax.text(
                    column,
                    row,
                    f"{100 * share:.0f}",
                    color=colour,
                    ha="center",
                    va="center",
                    size=8,
                )
            ax.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
            ax.set_yticks(range(len(classes)), classes)
            ax.tick_params(length=0, labelsize=8)
            ax.spines[:].set_visible(False)

        recalls = [
            f"{name} {percent(share)}"
            for name, share in zip(classes, shares.diagonal(), strict=True)
        ]
        return Panel(
            f"{system}, {stage}",
            f"Recall on test of {system}, {stage}: {listing(recalls)}.",
            1.2 + 0.3 * len(classes),
            draw,
        )

    return Figure("confusions", [panel(*pair) for pair in results.deciding])


def priors(results: Results) -> Figure:
    """Class priors of every single system: in training, in its posteriors, and on test."""
    classes = list(results.classes)

    def panel(system: str) -> Panel:
        found = priors_of(results, system)

        def draw(ax: Axes) -> None:
            y = np.arange(len(classes))
            grey, blue = STAGE_COLOURS["raw"], STAGE_COLOURS["rebalanced"]
            marks = [
                ("training prior", found.train, "s", {"color": grey, "ms": 6}),
                ("mean posterior, raw", found.raw, "o", {"mfc": "none", "mec": grey, "ms": 6}),
                ("target", found.target, "|", {"color": blue, "ms": 13, "mew": 1.4}),
                ("mean posterior, rebalanced", found.rebalanced, "o", {"color": blue, "ms": 5}),
                (
                    "reference share, test",
                    found.reference,
                    "D",
                    {"mfc": "none", "mec": INK, "ms": 6},
                ),
            ]
            for label, values, marker, style in marks:
                ax.plot(values, y, marker, label=label, clip_on=False, **style)
            ax.set_yticks(y, classes)
            ax.set_ylim(len(classes) - 0.5, -0.5)
            top = max(values.max() for _, values, _, _ in marks)
            ax.set_xlim(0, min(1.0, 1.1 * top))
            frame(ax, "x")
            ax.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False,
                fontsize=8.5, labelcolor=INK, handletextpad=0.5, columnspacing=1.2,
            )  # fmt: skip

        told = [
            f"{name} trained {number(a)}, mean posterior {number(b)} raw and {number(c)} rebalanced"
            for name, a, b, c in zip(classes, found.train, found.raw, found.rebalanced, strict=True)
        ]
        return Panel(
            system, f"Class priors of {system}: {'; '.join(told)}.", _rows(classes) + 0.75, draw
        )

    return Figure("priors", [panel(system) for system in results.systems])


def interpolation(results: Results) -> Figure:
    """The objective over the weight, for interpolations of two systems; one line a fit."""
    names = [
        name
        for name in dict.fromkeys(name for _, name in results.fusions)
        if _is_pair(results.fusions[results.seeds[0], name])
    ]

    def panel(name: str) -> Panel:
        runs = [results.fusions[seed, name] for seed in results.seeds]
        settings = runs[0]["settings"]
        fits = [fit for run in runs for fit in run["fits"]]
        first, second = settings["systems"]
        objective = (
            METRICS[settings["objective"]].title
            if settings["objective"] in METRICS
            else ("negative log-likelihood, nats")
        )

        def draw(ax: Axes) -> None:
            colour = STAGE_COLOURS["fused"]
            curves = []
            for fit in fits:
                x, y = np.array(fit["grid"])[:, 0], np.array(fit["objective"])
                curves.append(y)
                ax.plot(x, y, color=colour, lw=1.8 if len(fits) == 1 else 0.8,
                        alpha=1 if len(fits) == 1 else 0.55)  # fmt: skip
                chosen = np.abs(x - fit["weights"][0]).argmin()
                ax.plot(x[chosen], y[chosen], "o", ms=6, color=colour, mec=PAPER, mew=0.8, zorder=3)
            same = all(np.shape(c) == np.shape(curves[0]) for c in curves)
            if len(fits) > 1 and same:
                ax.plot(x, np.mean(curves, axis=0), color=INK, lw=1.8)
            ax.set_xlim(0, 1)
            ax.set_xlabel(f"weight of {first}; the rest is {second}")
            ax.set_ylabel(objective)
            frame(ax, "both")

        weights = [fit["weights"][0] for fit in fits]
        spread = (
            number(weights[0], 2)
            if min(weights) == max(weights)
            else (f"{number(min(weights), 2)} to {number(max(weights), 2)}")
        )
        alt = (
            f"{objective} over the weight of {first} against {second} in {plural(len(fits), 'fit')}; "
            f"chosen weight {spread}."
        )
        return Panel(name, alt, 3.0, draw)

    nothing = "This study interpolates no pair of systems, so there is no curve to draw."
    return Figure("interpolation", [panel(name) for name in names], nothing)


def _is_pair(run: dict) -> bool:
    settings = run["settings"]
    return "objective" in settings and len(settings["systems"]) == 2


def _ends(score) -> tuple[float, float]:
    if np.isnan(score.sd):
        return score.low, score.high
    return score.value - score.sd, score.value + score.sd


def _limits(results: Results, metrics: tuple[str, ...]) -> tuple[float, float]:
    """One range for all panels, so that they compare by eye."""
    values = [1 / len(results.classes)]
    for pair in results.deciding:
        for metric in metrics:
            score = results.score(*pair, "test", metric)
            dev = results.score(*pair, "dev", metric)
            values += [*_ends(score), score.paper, *([] if dev is None else [dev.value])]
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.04 * (high - low) + 0.005
    return max(0.0, low - margin), min(1.02, high + margin)


def _rows(names: list[str]) -> float:
    return 0.7 + 0.28 * len(names)
