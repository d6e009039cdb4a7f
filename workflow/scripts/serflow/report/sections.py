"""The tables of the page, as texts in rows: what is printed, not how it looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from serflow.concordance import TITLES
from serflow.equal_error import EER
from serflow.fold_intervals import wald_half_width
from serflow.folds import describe
from serflow.metrics import METRICS
from serflow.reliability import RELIABILITY
from serflow.report.costs import Cost, total_of
from serflow.report.formats import (
    DASH,
    count,
    duration,
    listing,
    memory,
    number,
    p_value,
    percent,
    signed,
    without_folders,
)  # fmt: skip
from serflow.report.headline import difference_spread, spread, verdict
from serflow.report.provenance import Download
from serflow.report.results import Results, priors_of

WHOLE = [*(metric for metric in METRICS.values() if metric.class_axes == 0), EER]
FOLD_MEANS = ("macro_f1", "uar", "wa")
MAX_SKIPPED = 50


@dataclass(frozen=True)
class Cell:
    """A number with its spread.

    Attributes
    ----------
    value : str
    spread : str
        Interval or standard deviation.
    best : bool
        Whether it is the best of its column.
    paper : str
        The published value, with the number of its source.
    share : float
        Shade, from -1 to 1.
    """

    value: str
    spread: str = ""
    best: bool = False
    paper: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class Table:
    """Rows of texts.

    Attributes
    ----------
    columns : sequence of str
    rows : list of sequence of (str or Cell)
    names : int
        How many of the first columns are names rather than numbers; -1: all.
    groups : sequence of (str, int)
        A line above the columns: title and how many columns it spans.
    """

    columns: Sequence[str]
    rows: list[Sequence[str | Cell]]
    names: int = 1
    groups: Sequence[tuple[str, int]] = ()


def scores_table(results: Results) -> tuple[Table, list[str]]:
    """Every system, stage and metric; also the sources of the paper's values."""
    sources: list[str] = []
    roles = ["test", "dev"] if results.has_dev else ["test"]
    best = {}
    for metric in WHOLE:
        values = [results.score(*pair, "test", metric.name).value for pair in results.deciding]
        best[metric.name] = min(values) if metric.lower_is_better else max(values)
    rows = []
    for system, stage in results.deciding:
        row: list[str | Cell] = [Cell(system, stage)]
        for metric in WHOLE:
            for role in roles:
                score = results.score(system, stage, role, metric.name)
                if score is None:
                    row.append(DASH)
                    continue
                is_best = role == "test" and abs(score.value - best[metric.name]) < 1e-12
                row.append(
                    Cell(number(score.value), spread(score), is_best, paper_value(score, sources))
                )
        row += [_n(results.score(system, stage, role, "wa")) for role in roles]
        rows.append(row)
    titles = [role.capitalize() for role in roles]
    groups = [("", 1), *((metric.title, len(roles)) for metric in WHOLE), ("n", len(roles))]
    return Table(["System", *titles * (len(WHOLE) + 1)], rows, 1, groups), sources


def fold_means_table(results: Results) -> Table | None:
    """Pooled values beside means over folds; None where there is one fold."""
    if results.fold_means.empty:
        return None
    means = results.fold_means
    rows: list[Sequence[str | Cell]] = []
    for system, stage in results.deciding:
        row: list[str | Cell] = [Cell(system, stage)]
        for metric in FOLD_MEANS:
            pooled = results.score(system, stage, "test", metric)
            mean = means.loc[system, stage, "test", "fold mean", metric, "", ""]
            wald = wald_half_width(float(np.clip(pooled.value, 0, 1)), int(pooled.n))
            row += [
                number(pooled.value),
                f"± {number(wald)}",
                Cell(number(mean.value), spread(mean)),
            ]
        rows.append(row)
    groups = [("", 1), *((METRICS[metric].title, 3) for metric in FOLD_MEANS)]
    return Table(["System", *["Pooled", "Wald", "Fold mean"] * len(FOLD_MEANS)], rows, 1, groups)


def definitions(results: Results) -> list[tuple[str, str]]:
    """Title and definition of each metric, as the scores table has them."""
    found = results.scores.drop_duplicates("metric").set_index("metric")["definition"]
    known = [*METRICS.values(), EER, *RELIABILITY.values()]
    titles = {metric.name: metric.title for metric in known}
    titles |= {"wer": "WER", "cer": "CER", **TITLES}
    return [(titles.get(str(name), str(name)), text) for name, text in found.items()]


def spread_note(results: Results) -> str:
    """What stands behind the numbers."""
    if len(results.seeds) > 1:
        return (
            f"Mean ± standard deviation (n {chr(0x2212)} 1) over {len(results.seeds)} seeds, and in "
            f"brackets the mean's {results.means['interval'].iloc[0]}; each seed's value and interval "
            "is in scores.csv."
        )
    return f"In brackets: {results.posterior_scores['interval'].iloc[0]}."


def selection_note(results: Results) -> str:
    """What was chosen on which rows."""
    fits = {fusion.fit_on for fusion in results.config.fusions.values()}
    best = [
        name
        for name, system in results.config.systems.items()
        if getattr(getattr(system, "training", None), "select", None) == "best"
    ]
    said = []
    if best:
        said.append(f"Dev rows choose the epoch of {listing(best)}.")
    if "dev" in fits:
        said.append("Fusions are fitted on dev rows, so their dev scores are optimistic.")
    if "cross_fit" in fits:
        said.append(
            "Fusions are cross-fitted: the rows that a fusion is scored on did not fit it, nor did "
            "other rows of their speakers."
        )
    return " ".join(said)


def recall_table(results: Results) -> Table:
    """Recall of each class on test."""
    rows: list[Sequence[str | Cell]] = []
    for system, stage in results.deciding:
        row: list[str | Cell] = [Cell(system, stage)]
        for label in results.classes:
            score = results.score(system, stage, "test", "recall", label)
            row.append(DASH if score is None else Cell(number(score.value), spread(score)))
        rows.append(row)
    support = results.confusion(*results.deciding[0]).sum(axis=1) / len(results.seeds)
    rows.append(["Reference utterances", *map(count, support)])
    return Table(["System", *results.classes], rows)


def confusion_tables(results: Results) -> list[tuple[str, Table]]:
    """Counts and row per cent on test, of every system and stage."""
    found = []
    for system, stage in results.deciding:
        counts = results.confusion(system, stage)
        rows: list[Sequence[str | Cell]] = []
        for label, row in zip(results.classes, counts, strict=True):
            total = row.sum()
            shares = row / total if total else np.zeros_like(row)
            cells = [
                Cell(count(n), percent(share, 1) if total else DASH, share=round(float(share), 3))
                for n, share in zip(row, shares, strict=True)
            ]
            rows.append([label, *cells])
        found.append((f"{system}, {stage}", Table(["", *results.classes], rows)))
    return found


def comparisons_table(results: Results) -> Table:
    """Paired differences on the same test rows."""
    several = len(results.seeds) > 1
    rows = [
        [
            Cell(f"{row.system} ({row.stage})", f"against {row.baseline} ({row.baseline_stage})"),
            Cell(signed(row.difference), difference_spread(row)),
            *([] if several else map(p_value, (row.p, row.p_holm, row.mcnemar_p_holm))),
            _finding(row),
            METRICS[row.metric].title if row.metric in METRICS else row.metric,
            count(row.n),
        ]
        for row in results.mean_comparisons().itertuples()
    ]
    p = [] if several else ["p", "Holm's p", "McNemar, Holm"]
    return Table(["Systems", "Difference", *p, "Finding", "Metric", "n"], rows)


def priors_table(results: Results, system: str) -> Table:
    """Class priors of one system."""
    found = priors_of(results, system)
    rows = []
    for i, label in enumerate(results.classes):
        low, high = found.train_low[i], found.train_high[i]
        varies = number(low) != number(high)
        rows.append(
            [
                label,
                Cell(number(found.train[i]), f"{number(low)} to {number(high)}" if varies else ""),
                number(found.target[i]),
                number(found.raw[i]),
                number(found.rebalanced[i]),
                number(found.reference[i]),
            ]
        )
    groups = [("", 1), ("Prior", 2), ("Mean posterior", 2), ("Share", 1)]
    return Table(["Class", "Training", "Target", "Raw", "Rebalanced", "Test"], rows, 1, groups)


def corpora_table(results: Results) -> Table:
    """What each corpus brings to the study."""
    rows = []
    for corpus, part in results.utterances.groupby("corpus", sort=False):
        genders = part.drop_duplicates("speaker")["gender"].value_counts()
        sexes = ", ".join(f"{genders[g]} {g}" for g in ("female", "male") if g in genders)
        speakers = part["speaker"].nunique()
        noted = part["audio_note"].fillna("").str.strip()
        rows.append(
            [
                str(corpus),
                count(len(part)),
                Cell(count(speakers) if speakers else DASH, sexes),
                duration(part["duration_s"].sum()),
                f"{part['duration_s'].median():.1f} s",
                listing([f"{rate:,} Hz" for rate in sorted(set(part["sample_rate"].dropna()))]),
                count((results.skipped["corpus"] == corpus).sum()),
                count((noted != "").sum()),
            ]
        )
    columns = [
        "Corpus", "Utterances", "Speakers", "Duration", "Median length", "Source rate",
        "Skipped files", "With an audio note",
    ]  # fmt: skip
    return Table(columns, rows)


def folds_table(results: Results) -> Table:
    """Utterances by fold, role and class; speakers and speech of each part."""
    classes = [*results.classes, *results.config.labels.train_only]
    counts = describe(results.utterances, results.folds)
    counts = counts.pivot_table(
        index=["fold", "role"], columns="label", values="utterances", sort=False
    ).reindex(columns=classes, fill_value=0)
    joined = results.folds.merge(
        results.utterances[["utterance_id", "speaker", "duration_s"]], on="utterance_id"
    )
    parts = joined.groupby(["fold", "role"]).agg(
        speakers=("speaker", "nunique"), seconds=("duration_s", "sum")
    )
    rows = []
    for (fold, role), row in counts.iterrows():
        part = parts.loc[(fold, role)]
        speakers = count(part["speakers"]) if part["speakers"] else DASH
        rows.append(
            [fold, role, *map(count, row), count(row.sum()), speakers, duration(part["seconds"])]
        )
    return Table(["Fold", "Role", *classes, "All", "Speakers", "Duration"], rows, 2)


def skipped_table(results: Results) -> Table:
    """Audio files that were left out, and why."""
    rows = [
        [row.corpus, without_folders(str(row.path)), without_folders(str(row.reason))]
        for row in results.skipped.head(MAX_SKIPPED).itertuples()
    ]
    return Table(["Corpus", "File", "Reason"], rows, -1)


def costs_table(costs: list[Cost]) -> Table:
    """What each stage took and asked for, and their sum; columns of which nothing is known are left out."""

    def summed(total: float, longest: float, many: bool) -> str | Cell:
        shown = _known(total, duration, DASH)
        return (
            Cell(shown, f"longest {duration(longest)}") if many and not np.isnan(longest) else shown
        )

    shown: dict[str, Callable[[Cost], str | Cell]] = {
        "Stage": lambda cost: cost.title,
        "Jobs": lambda cost: count(cost.jobs) if cost.jobs else DASH,
        "Failed attempts": lambda cost: count(cost.failed) if cost.jobs else DASH,
        "Queued": lambda cost: summed(
            cost.queued, cost.longest_queued, cost.jobs + cost.failed > 1
        ),
        "Wall time": lambda cost: (
            summed(cost.seconds, cost.longest, cost.jobs + cost.failed > 1)
            if cost.jobs
            else "not measured"
        ),
        "CPU time": lambda cost: _known(cost.cpu_seconds, duration, DASH if not cost.jobs else ""),
        "GPU time": lambda cost: _known(cost.gpu_seconds, duration, DASH),
        "Peak memory": lambda cost: _known(cost.memory, memory),
        "Asked": lambda cost: _asked(cost.asked_memory, cost.asked_seconds / 60),
        "Would do": lambda cost: (
            DASH if np.isnan(cost.asked_memory) else _asked(cost.enough_memory, cost.enough_minutes)
        ),
    }
    known = {
        "Failed attempts": any(cost.failed for cost in costs),
        "Queued": not all(np.isnan(cost.queued) for cost in costs),
        "GPU time": not all(np.isnan(cost.gpu_seconds) for cost in costs),
        "Asked": not all(np.isnan(cost.asked_memory) for cost in costs),
    }
    known["Would do"] = known["Asked"]
    columns = [name for name in shown if known.get(name, True)]
    rows = [*costs, total_of(costs)]
    return Table(columns, [[shown[name](cost) for name in columns] for cost in rows])


def _asked(megabytes: float, minutes: float) -> str | Cell:
    if np.isnan(megabytes) and np.isnan(minutes):
        return DASH
    return Cell(f"{_known(megabytes, count)} MB", f"{_known(minutes, count)} min")


def facts_table(facts: dict[str, dict[str, str]], systems: list[str]) -> Table:
    """What the systems say of their fits."""
    rows = [[name, *(by.get(system, DASH) for system in systems)] for name, by in facts.items()]
    return Table(["Fact", *systems], rows, -1)


def downloads_table(downloads: list[Download]) -> Table:
    """The files that corpora were unpacked from."""
    rows = [[d.corpus, d.name, f"{count(d.size)} bytes", d.digest, d.checked] for d in downloads]
    return Table(["Corpus", "File", "Size", "SHA-256", "Published checksum"], rows, -1)


def digests_table(results: Results) -> Table:
    """The posteriors tables, their files and the digests of the systems behind them."""
    rows = [
        [f"seed-{seed}/posteriors/{stage}/{system}.parquet", count(len(table.rows)),
         table.system_digest]
        for (seed, stage, system), table in results.posteriors.items()
    ]  # fmt: skip
    return Table(["File", "Rows", "System digest"], rows)


def _finding(row: Any) -> str:
    sides = ["better", "worse"]
    if row.metric in METRICS and METRICS[row.metric].lower_is_better:
        sides.reverse()
    return verdict(row, *sides).replace("includes zero", "not shown to differ")


def _n(score: Any) -> str:
    return DASH if score is None else count(score.n)


def paper_value(score: Any, sources: list[str]) -> str:
    """The published value beside a score, with the number of its source, which is added to them."""
    if score.paper is None or pd.isna(score.paper):
        return ""
    source = str(score.paper_source or "")
    if source not in sources:
        sources.append(source)
    return f"paper {number(score.paper)} ({sources.index(source) + 1})"


def _known(value: float, write: Callable[[float], str], otherwise: str = "") -> str:
    return (otherwise or "not measured") if np.isnan(value) else write(value)
