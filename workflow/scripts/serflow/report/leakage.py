"""What the report says of the folds: what they share, and what another protocol would have shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from serflow.config.folds import FoldsConfig
from serflow.leakage.audit import ALL_FOLDS, OVERLAPS
from serflow.report.formats import DASH, count, number, plural, signed
from serflow.report.headline import spread
from serflow.report.results import Results
from serflow.report.sections import WHOLE, Cell, Table

TITLES = {
    "speaker": "Speakers",
    "sentence": "Sentences",
    "session": "Sessions",
    "text": "Equal texts",
    "duplicate": "Equal or overlapping recordings",
    "near_duplicate": "Near-duplicate recordings",
    "unknown_speaker": "Utterances without a speaker",
    "conflicting_labels": "Equal recordings, different labels",
    "prior_shift": "Class priors",
    "small_class": "Small classes",
    "accept_entry": "Accepted, but not found",
}
UNSHARED = ("prior_shift", "small_class")  # what these find is no overlap
WORDS = {"ok": "none", "accepted": "accepted", "warning": "warning", "not_checked": "not checked"}
SHOWN = ("uar", "macro_f1", "wa", "eer")


@dataclass(frozen=True)
class ContrastShown:
    """Another protocol, in words.

    Attributes
    ----------
    name, protocol, note : str
    accepted : list of (str, str)
        What its folds share between train, dev and test, and why the study accepts it.
    """

    name: str
    protocol: str
    note: str
    accepted: list[tuple[str, str]]


def protocol_text(folds: FoldsConfig, n_folds: int) -> str:
    """'leave one group out (speaker), 10 folds'."""
    group = getattr(folds, "group", None)
    return (
        f"{folds.protocol.replace('_', ' ')}{f' ({group})' if group else ''}, "
        f"{plural(n_folds, 'fold')}"
    )


def audit_table(findings: pd.DataFrame) -> Table:
    """One row a check and pair of roles, over all folds; what was found first."""
    folds = findings.loc[findings["fold"] != ALL_FOLDS, "fold"].nunique()
    order = {"warning": 0, "accepted": 1, "not_checked": 2, "ok": 3}
    rows = []
    for (check, between), part in findings.groupby(["check", "between"], sort=False):
        worst = min(part["status"], key=order.__getitem__)
        hit = part[part["status"] == worst]
        over = folds if hit["fold"].iloc[0] != ALL_FOLDS else 1
        whole = hit["fold"].iloc[0] == ALL_FOLDS
        rows.append(
            (
                order[worst],
                [
                    TITLES[check],
                    between,
                    "no warning" if worst == "ok" and check in UNSHARED else WORDS[worst],
                    DASH if whole or worst in ("ok", "not_checked") else f"{len(hit)} of {over}",
                    _amount(check, worst, hit),
                    _words(check, worst, hit),
                ],
            )
        )
    rows.sort(key=lambda pair: pair[0])
    columns = ["Check", "Between", "Found", "Folds", "Worst fold", "What, and why"]
    return Table(columns, [row for _, row in rows], -1)


def _amount(check: str, status: str, hit: pd.DataFrame) -> str:
    if status in ("ok", "not_checked") or check == "accept_entry":
        return DASH
    if check == "prior_shift":
        return f"distance {number(hit['value'].max())}"
    if check == "small_class":
        return f"smallest {count(hit['value'].min())}"
    worst = hit.loc[hit["groups"].idxmax()]
    sides = [worst["utterances_first"], worst["utterances_second"]]
    return f"{count(worst['groups'])} in {' + '.join(count(n) for n in sides if n)} utterances"


def _words(check: str, status: str, hit: pd.DataFrame) -> str:
    first = hit.iloc[0]
    said = [first["reason"], first["detail"], first["examples"]]
    if status == "ok":
        said = [first["detail"]] if check in OVERLAPS else []
    return "; ".join(str(text).strip() for text in said if not pd.isna(text) and str(text).strip())


def audit_verdict(findings: pd.DataFrame) -> str:
    """The audit in one sentence."""
    checks = findings[findings["check"] != "accept_entry"]
    kinds = checks.groupby(["check", "between"])["status"].agg(set)
    folds = findings.loc[findings["fold"] != ALL_FOLDS, "fold"].nunique()
    accepted = sorted({TITLES[c].lower() for (c, _), s in kinds.items() if "accepted" in s})
    warned = findings.loc[findings["status"] == "warning", ["check", "between"]]
    blind = sorted({TITLES[c].lower() for (c, _), s in kinds.items() if "not_checked" in s})
    parts = [
        f"shared with the study's consent: {', '.join(accepted)}" if accepted else "nothing shared",
        plural(len(warned.drop_duplicates()), "warning"),
        f"could not be checked: {', '.join(blind)}" if blind else "",
    ]
    over = f"{plural(len(kinds), 'check')} over {plural(folds, 'fold')}"
    return f"{over}: {'; '.join(part for part in parts if part)}."


def contrasts(results: Results) -> list[ContrastShown]:
    """The study's other protocols, in words."""
    shown = []
    for name, contrast in results.contrasts.items():
        config = results.config.contrasts[name]
        accepted = contrast.audit[contrast.audit["status"] == "accepted"]
        pairs = accepted.drop_duplicates(["check", "reason"])[["check", "reason"]]
        shown.append(
            ContrastShown(
                name,
                protocol_text(config.folds, len(config.folds.names())),
                config.note.strip(),
                [
                    (TITLES[check], reason.strip())
                    for check, reason in pairs.itertuples(index=False)
                ],
            )
        )
    return shown


def contrasts_table(results: Results) -> Table:
    """Test scores of every system under the study's own protocol and each contrast."""
    metrics = sorted((m for m in WHOLE if m.name in SHOWN), key=lambda m: SHOWN.index(m.name))
    tables = [results.means, *(contrast.means for contrast in results.contrasts.values())]
    rows: list[Sequence[str | Cell]] = []
    for system, stage in results.deciding:
        keys = [(system, stage, "test", "pooled", metric.name, "", "") for metric in metrics]
        found = [
            [table.loc[key] if key in table.index else None for key in keys] for table in tables
        ]
        if not any(score is not None for other in found[1:] for score in other):
            continue
        row: list[str | Cell] = [Cell(system, stage)]
        row += [_cell(score) for score in found[0]]
        for other in found[1:]:
            row += [_cell(score) for score in other]
            row += [
                _gap(mine, theirs) for mine, theirs in zip(found[0][:1], other[:1], strict=True)
            ]
        rows.append(row)
    titles = [metric.title for metric in metrics]
    groups = [("", 1), ("The study's own protocol", len(titles))]
    columns = ["System", *titles]
    for name in results.contrasts:
        groups.append((name.replace("_", " "), len(titles) + 1))
        columns += [*titles, f"{titles[0]} gained"]
    return Table(columns, rows, 1, groups)


def _cell(score: pd.Series | None) -> str | Cell:
    return DASH if score is None else Cell(number(score.value), spread(score))


def _gap(mine: pd.Series | None, theirs: pd.Series | None) -> str:
    return DASH if mine is None or theirs is None else signed(theirs.value - mine.value)
