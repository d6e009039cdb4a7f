"""The result in sentences, computed from the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from serflow.metrics import METRICS
from serflow.report.formats import count, interval, listing, number, plural, signed
from serflow.report.results import Results

METRIC = "macro_f1"
TITLE = METRICS[METRIC].title


@dataclass(frozen=True)
class Tile:
    """A number worth reading first."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Headline:
    """What the study found."""

    sentences: list[str]
    tiles: list[Tile]

    def text(self, page: str) -> str:
        """What the terminal shows at the end of a run."""
        return "\n".join([*self.sentences, f"Report: {page}"]) + "\n"


def headline(results: Results) -> Headline:
    """The study's primary fusion against the better single system; without fusions, the best."""
    fused = [pair for pair in results.tables if pair[1] == "fused"]
    compared = results.mean_comparisons()
    compared = compared[(compared["metric"] == METRIC) & (compared["role"] == "test")]
    sentences = _fusion(results, compared, fused) if fused else _single(results)
    sentences += [*_gap(results, fused), *_rebalancing(compared)]
    return Headline(sentences, _tiles(results, compared, fused))


def verdict(row: Any, better: str = "above zero", worse: str = "below zero") -> str:
    """How the paired intervals of one comparison lie."""
    if row.seeds > 1:
        text = f"{better} in {row.above} of {row.seeds} seeds"
        return text + (f", {worse} in {row.below}" if row.below else "")
    if row.above:
        return better
    return worse if row.below else "includes zero"


def difference(row: Any) -> str:
    """A difference with its interval, or with its standard deviation over seeds."""
    return f"{signed(row.difference)} {difference_spread(row)}"


def difference_spread(row: Any) -> str:
    """Interval of a difference, or its standard deviation over seeds."""
    return f"± {number(row.sd)}" if row.seeds > 1 else interval(row.low, row.high, sign=True)


def spread(score: Any) -> str:
    """Standard deviation over seeds, where there are several, and interval, where there is one."""
    parts = [] if pd.isna(score.sd) else [f"± {number(score.sd)}"]
    return " ".join(parts + ([] if pd.isna(score.low) else [interval(score.low, score.high)]))


def with_spread(score: Any) -> str:
    """A score with its spread."""
    return f"{number(score.value)} {spread(score)}".strip()


def _oracles(results: Results) -> set[str]:
    """Systems that read what was really said, beside others that read what was recognised."""
    return {twin for _, twin in results.config.transcript_twins()}


def _best(results: Results, pairs: list[tuple[str, str]]) -> tuple[str, str]:
    fair = [pair for pair in pairs if pair[0] not in _oracles(results)]
    return max(fair, key=lambda pair: results.score(*pair, "test", METRIC).value)


def _lead(results: Results, fused: list[tuple[str, str]]) -> tuple[str, str]:
    """What the study declared as its result; choosing among fusions by test score would flatter."""
    primary = results.config.primary
    if primary is not None:
        return primary, "fused"
    return fused[0] if fused else _best(results, results.tables)


def _pair(results: Results, compared: pd.DataFrame, fused: list[tuple[str, str]]) -> Any:
    """The comparison of the leading fusion with the best single system that it was compared with."""
    best = _lead(results, fused)
    rows = compared[(compared["system"] == best[0]) & (compared["stage"] == best[1])]
    rows = rows[rows["baseline_stage"] != "fused"]
    baselines = list(zip(rows["baseline"], rows["baseline_stage"], strict=True))
    if not baselines:
        return None
    other = _best(results, baselines)
    return next(row for row in rows.itertuples() if (row.baseline, row.baseline_stage) == other)


def _fusion(results: Results, compared: pd.DataFrame, fused: list[tuple[str, str]]) -> list[str]:
    best = _lead(results, fused)
    score = results.score(*best, "test", METRIC)
    declared = results.config.primary is not None
    among = "declared as the primary result" if declared else f"the first of {len(fused)}"
    among = f" ({among})" if len(fused) > 1 else ""
    over = f", over {plural(len(results.seeds), 'seed')}," if len(results.seeds) > 1 else ""
    text = (
        f"On {plural(score.n, 'test utterance')}{over} the fusion {best[0]}{among} reaches "
        f"{TITLE} {with_spread(score)}"
    )
    row = _pair(results, compared, fused)
    if row is None:
        return [f"{text}."]
    other = results.score(row.baseline, row.baseline_stage, "test", METRIC)
    oracles = _oracles(results)
    rank = "better" if len(results.systems) - len(oracles) == 2 else "best"
    among = " that reads no reference" if oracles else ""
    sentences = [
        f"{text}; the {rank} single system{among}, {row.baseline} ({row.baseline_stage}), reaches "
        f"{with_spread(other)}."
    ]
    return sentences + _finding(row)


def _finding(row: Any) -> list[str]:
    if row.seeds > 1:
        return [
            f"The mean paired difference is {difference(row)} over seeds.",
            f"By seed, its interval ({row.interval}) lies {verdict(row)}.",
        ]
    ends = {
        "above zero": "The interval lies above zero: the fusion is better.",
        "below zero": "The interval lies below zero: the fusion is worse.",
        "includes zero": "The interval includes zero: no difference is shown.",
    }
    return [
        f"The paired difference is {difference(row)} ({row.interval}).",
        ends[verdict(row)],
    ]


def _single(results: Results) -> list[str]:
    best = _best(results, results.tables)
    score = results.score(*best, "test", METRIC)
    return [
        f"On {plural(score.n, 'test utterance')} the best system, {best[0]} ({best[1]}), reaches "
        f"{TITLE} {with_spread(score)}. The study has no fusion."
    ]


def _gap(results: Results, fused: list[tuple[str, str]]) -> list[str]:
    best = _lead(results, fused)
    dev = results.score(*best, "dev", METRIC)
    if dev is None:
        return []
    test = results.score(*best, "test", METRIC)
    why = ", on which it was fitted" if fused else ""
    return [
        f"On the dev rows{why}, {best[0]} reaches {number(dev.value)}: dev minus test is "
        f"{signed(dev.value - test.value)}."
    ]


def _rebalancing(compared: pd.DataFrame) -> list[str]:
    rows = compared[
        (compared["stage"] == "rebalanced") & (compared["system"] == compared["baseline"])
    ]
    if len(rows) and not rows[["difference", "low", "high"]].any(axis=None):
        return ["Rebalancing the class prior changes no score."]
    changes = [f"{row.system} by {difference(row)}" for row in rows.itertuples()]
    return [f"Rebalancing the class prior changes {listing(changes)}."] if changes else []


def _tiles(results: Results, compared: pd.DataFrame, fused: list[tuple[str, str]]) -> list[Tile]:
    best = _lead(results, fused)
    tiles = []
    for metric in (METRIC, "uar"):
        score = results.score(*best, "test", metric)
        tiles.append(
            Tile(METRICS[metric].title, number(score.value), f"{best[0]}, test {spread(score)}")
        )
    row = _pair(results, compared, fused) if fused else None
    if row is not None:
        note = f"{TITLE} {difference_spread(row)}"
        tiles.append(Tile(f"Fusion minus {row.baseline}", signed(row.difference), note))
    wer = results.scores[results.scores["metric"] == "wer"]
    wer = wer[wer["label"] == "split test"]
    for score in wer.itertuples():
        tiles.append(
            Tile(
                "WER",
                number(score.value),
                f"{score.system}, test {interval(score.low, score.high)}",
            )
        )
    if len(tiles) < 4:
        n = results.score(*best, "test", METRIC).n
        tiles.append(Tile("Test utterances", count(n), f"{len(results.classes)} classes"))
    return tiles
