"""What the report says of transcripts: errors, outcomes, speed, and what the errors cost."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from serflow.metrics import METRICS
from serflow.report.formats import DASH, count, duration, number, p_value, percent, signed
from serflow.report.headline import difference_spread, spread
from serflow.report.results import Results
from serflow.report.sections import Cell, Table

EXAMPLES = 8
COST = "macro_f1"


@dataclass(frozen=True)
class Example:
    """A transcript beside its reference; `words` are (text, whether it differs)."""

    utterance_id: str
    status: str
    reference: str
    words: list[tuple[str, bool]] = field(default_factory=list)


def error_rates_table(results: Results) -> Table:
    """WER and CER of all utterances, then by split, corpus, emotion and gender."""
    found = results.scores[results.scores["stage"] == "transcribed"]
    rows = []
    for (asr, scope), part in found.groupby(["system", "label"], sort=False):
        rates = part.set_index("metric")
        wer, cer = rates.loc["wer"], rates.loc["cer"]
        rows.append([asr, scope or "all", _rate(wer), _rate(cer), count(wer.n)])
    return Table(["ASR", "Utterances", "WER", "CER", "n"], rows, 2)


def status_table(transcripts: pd.DataFrame) -> Table:
    """How the transcriptions ended."""
    found = transcripts.groupby(["asr", "status"], sort=True).size()
    share = found / found.groupby(level="asr").transform("sum")
    rows = [
        [asr, status, count(n), percent(share[asr, status], 1)]
        for (asr, status), n in found.items()
    ]
    return Table(["ASR", "Status", "Utterances", "Share"], rows, 2)


def speed_table(results: Results) -> Table:
    """What each recogniser was, where it ran, and how many times faster than real time."""
    rows = []
    for asr, jobs in results.asr_jobs.items():
        if not jobs:
            continue
        model = jobs[0].get("model", {})
        heard, wall = (sum(job.get(key, 0.0) for job in jobs) for key in ("audio_s", "wall_s"))
        rows.append(
            [
                asr,
                _last(str(model.get("origin") or model.get("name", DASH))),
                str(model.get("revision") or model.get("sha256", DASH))[:12],
                ", ".join(dict.fromkeys(job["device"] for job in jobs if "device" in job)) or DASH,
                ", ".join(dict.fromkeys(job["dtype"] for job in jobs if "dtype" in job)) or DASH,
                duration(heard) if heard else DASH,
                number(heard / wall, 1) if wall else DASH,
                count(len(jobs)),
            ]
        )
    columns = ["ASR", "Model", "Revision", "Device", "Precision", "Audio", "Speed", "Jobs"]
    return Table(columns, rows, 5)


def cost_table(results: Results) -> Table:
    """Systems on recognised texts beside the same systems on the corpus's own transcripts."""
    compared = results.mean_comparisons().set_index(
        ["metric", "system", "stage", "baseline", "baseline_stage"]
    )
    several = len(results.seeds) > 1
    rows = []
    for system, twin in results.config.transcript_twins():
        for stage in results.config.stages:
            key = (COST, system, stage, twin, stage)
            mine, theirs = (results.score(s, stage, "test", COST) for s in (system, twin))
            if key not in compared.index or mine is None or theirs is None:
                continue
            row = compared.loc[key]
            rows.append(
                [
                    Cell(system, stage),
                    results.config.transcription(system),
                    Cell(number(mine.value), spread(mine)),
                    Cell(number(theirs.value), spread(theirs)),
                    Cell(signed(row.difference), difference_spread(row)),
                    *([] if several else [p_value(row.p)]),
                ]
            )
    title = METRICS[COST].title
    p = [] if several else ["p"]
    columns = ["System", "ASR", f"{title}, recognised", f"{title}, reference", "Difference", *p]
    return Table(columns, rows, 2)


def examples(results: Results) -> list[Example]:
    """Some recognised test utterances, evenly spaced by id, with the words that differ."""
    known = results.utterances.set_index("utterance_id")
    test = set(results.folds.loc[results.folds["role"] == "test", "utterance_id"])
    recognised = [n for n, asr in results.config.asr.items() if asr.engine != "reference"]
    rows = results.transcripts.sort_values("utterance_id")
    rows = rows[rows["utterance_id"].isin(test) & rows["asr"].isin(recognised[:1])]
    rows = rows.assign(reference=rows["utterance_id"].map(known["text"]))
    rows = rows[rows["reference"].notna()]
    if rows.empty:
        return []
    chosen = np.unique(np.linspace(0, len(rows) - 1, EXAMPLES).round().astype(int))
    return [
        Example(row.utterance_id, row.status, row.reference, _marked(row.reference, row.text))
        for row in rows.iloc[chosen].itertuples()
    ]


def section(results: Results) -> Mapping[str, Any] | None:
    """All that the page's section shows; None for a study without transcripts."""
    if results.transcripts is None:
        return None
    errors = error_rates_table(results)
    found = results.scores[results.scores["stage"] == "transcribed"]
    definitions = found.drop_duplicates("metric")["definition"]
    cost = cost_table(results)
    return {
        "errors": errors if errors.rows else None,
        "definitions": list(definitions),
        "status": status_table(results.transcripts),
        "speed": speed_table(results),
        "cost": cost if cost.rows else None,
        "examples": examples(results),
    }


def _rate(row: Any) -> Cell:
    interval = "" if pd.isna(row.low) else f"[{percent(row.low, 1)}, {percent(row.high, 1)}]"
    return Cell(percent(row.value, 1), interval)


def _last(model: str) -> str:
    """A hub id as it is; of a path of this machine its last part alone."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith(("/", "~", ".")) else model


def _marked(reference: str, hypothesis: str) -> list[tuple[str, bool]]:
    words = hypothesis.split()
    plain = [[_bare(word) for word in text] for text in (reference.split(), words)]
    matcher = difflib.SequenceMatcher(None, *plain, autojunk=False)
    same = {
        j for block in matcher.get_matching_blocks() for j in range(block.b, block.b + block.size)
    }
    return [(word, j not in same) for j, word in enumerate(words)]


def _bare(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum() or c == "'")
