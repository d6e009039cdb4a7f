"""The leakage audit: what train, dev and test share, and whether the study knows of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serflow.errors import UserError, name_some
from serflow.folds import ROLES
from serflow.leakage.classes import (
    EXAMPLES,
    conflicting_labels,
    prior_distance,
    small_classes,
)
from serflow.leakage.groups import Groups, count, overlap_groups
from serflow.tables import INTEGER, NUMBER, TEXT, Table

OVERLAPS = (
    "speaker",
    "sentence",
    "session",
    "text",
    "duplicate",
    "near_duplicate",
    "unknown_speaker",
)
STATUSES = ("ok", "accepted", "failed", "warning", "not_checked")
ALL_FOLDS = "all"

# One row a fold, check and `between`, the checks that found nothing included. `between` is two
# roles ('train-test'), for small_class one, for conflicting_labels 'any', for accept_entry the
# accepted overlap. `groups` counts what is shared (speakers, sentences, recordings, ...; for
# unknown_speaker corpora, for small_class classes) and `utterances_first`, `utterances_second` the
# utterances concerned in each role. `value` is the total variation distance of prior_shift, in
# [0, 1], and `p` its chi-square test's p-value; for small_class `value` is the smallest count.
AUDIT = Table(
    "audit",
    {
        "fold": TEXT,
        "check": TEXT,
        "between": TEXT,
        "status": TEXT,
        "groups": INTEGER,
        "utterances_first": INTEGER,
        "utterances_second": INTEGER,
        "value": NUMBER,
        "p": NUMBER,
        "examples": TEXT,
        "reason": TEXT,
        "detail": TEXT,
    },
    ["fold", "check", "between"],
    ["status", "groups", "utterances_first", "utterances_second"],
    {
        "check": (*OVERLAPS, "conflicting_labels", "prior_shift", "small_class", "accept_entry"),
        "status": STATUSES,
    },
)

_USED = (
    "utterance_id",
    "corpus",
    "path",
    "speaker",
    "sentence_id",
    "session",
    "text",
    "label",
    "audio_digest",
)
_SHARED = {
    "speaker": "speakers",
    "sentence": "sentences",
    "session": "sessions",
    "text": "texts",
    "duplicate": "recordings",
    "near_duplicate": "recordings",
    "unknown_speaker": "corpora without speakers",
}
_FIX = {
    "speaker": "`folds: {protocol: grouped_k_fold, group: speaker, k: 5}` keeps speakers apart, if "
    "there are as many.",
    "sentence": "`folds: {protocol: grouped_k_fold, group: sentence_id, k: 5}` keeps them apart.",
    "session": "`folds: {protocol: grouped_k_fold, group: session, k: 5}` keeps sessions apart.",
    "text": "Give such utterances one `sentence_id` in the corpus, then group the folds by it.",
    "duplicate": "Leave all but one copy out of the corpus, or keep the copies in one role.",
    "near_duplicate": "Leave all but one copy out of the corpus, or keep the copies in one role.",
    "unknown_speaker": "Fill in `speaker` in the corpus: an overlap cannot be ruled out without.",
}


def audit(
    utterances: pd.DataFrame,
    folds: pd.DataFrame,
    *,
    accept: Sequence[Mapping[str, Any]] = (),
    near: pd.DataFrame | None = None,
    min_per_class: int = 10,
    prior_shift: float = 0.1,
    train_only: Sequence[str] = (),
) -> pd.DataFrame:
    """Look for whatever makes a test easier than it should be.

    Speakers, sentences, sessions and texts of two corpora are distinct even where they have one
    name; copies of a recording are looked for across corpora.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES` with `label` filled.
    folds : DataFrame
        `tables.FOLDS`.
    accept : sequence of mapping
        Overlaps that the study stands by: `overlap` (one of `OVERLAPS`), `reason`, and optionally
        `between`, two roles; without it any two.
    near : DataFrame, optional
        `duplicates.near_duplicates`; without it, that check is reported as not made.
    min_per_class : int
        Warn of classes with fewer utterances in a role.
    prior_shift : float
        Warn where the class priors of train and test are further apart, as total variation
        distance in [0, 1].
    train_only : sequence of str
        Classes that are never scored; the two warnings leave them out.

    Returns
    -------
    DataFrame
        `AUDIT`. An overlap is 'accepted' or 'failed'; all else is at most a 'warning'.
    """
    # As text, so that a column without any value is no column of numbers.
    utterances = utterances.reset_index(drop=True)
    numbers = utterances[["channel", "start", "end"]].astype(float)
    utterances = utterances[list(_USED)].astype("str").join(numbers)
    at = pd.Index(utterances["utterance_id"]).get_indexer(folds["utterance_id"])
    if (at < 0).any():
        gone = folds.loc[at < 0, "utterance_id"]
        raise UserError(f"{len(gone)} rows of the folds are no utterances: {name_some(gone)}")
    checks = overlap_groups(utterances, near)
    labels, classes = pd.factorize(utterances["label"], sort=True)
    scored = ~np.isin(classes, list(train_only))
    role_codes = pd.Categorical(folds["role"], categories=ROLES).codes
    rows: list[dict[str, Any]] = []
    for fold, places in folds.groupby("fold", sort=False).indices.items():
        roles = np.full(len(utterances), -1)
        roles[at[places]] = role_codes[places]
        present = [role for role in range(len(ROLES)) if (roles == role).any()]
        for check, groups in checks.items():
            for row in _shared(utterances, groups, roles, present, check == "unknown_speaker"):
                rows.append({"fold": fold, "check": check, **row})
        counts = count(labels, len(classes), roles)[scored]
        rows += [{"fold": fold, **row} for row in prior_distance(counts, prior_shift)]
        rows += [
            {"fold": fold, **row}
            for row in small_classes(counts, classes[scored], present, min_per_class)
        ]
    rows.append({"fold": ALL_FOLDS, **conflicting_labels(utterances, labels, near)})
    findings = pd.DataFrame(rows).reindex(columns=list(AUDIT.columns))
    findings = _accepted(findings, accept)
    AUDIT.check(findings, "of these folds")
    return findings


def refuse_unknown_speakers(utterances: pd.DataFrame, folds: pd.DataFrame) -> None:
    """Raise UserError if a test utterance has no speaker, as intervals over speakers need.

    The evaluation would find it too, after all training.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES`.
    folds : DataFrame
        `tables.FOLDS`.
    """
    tested = set(folds.loc[folds["role"] == "test", "utterance_id"])
    rows = utterances[utterances["utterance_id"].isin(tested)]
    unknown = rows.loc[rows["speaker"].isna(), "utterance_id"]
    if len(unknown):
        raise UserError(
            f"intervals.unit is 'speaker', but {len(unknown)} of {len(rows)} test utterances have "
            f"none: {name_some(unknown)}. Fill in `speaker` in the corpus, or set "
            "`intervals: {unit: utterance}` in the study."
        )


def refuse_failed(findings: pd.DataFrame, contrast: str = "") -> None:
    """Raise UserError if a check failed: every one with its folds, counts and first offenders.

    Parameters
    ----------
    findings : DataFrame
        `AUDIT`.
    contrast : str
        Name of the study's contrast whose folds these are; empty for the study's own.
    """
    failed = findings[findings["status"] == "failed"]
    if failed.empty:
        return
    folds = findings.loc[findings["fold"] != ALL_FOLDS, "fold"].nunique()
    lines = []
    for (check, between), rows in failed.groupby(["check", "between"], sort=False):
        worst = rows.loc[rows["groups"].idxmax()]
        first, second = between.split("-")
        lines.append(
            f"  {check}, {between}: in {len(rows)} of {folds} folds; in fold '{worst['fold']}' "
            f"{worst['groups']} {_SHARED[check]}, {worst['utterances_first']} {first} and "
            f"{worst['utterances_second']} {second} utterances: {worst['examples']}"
        )
    checks = list(dict.fromkeys(failed["check"]))
    fixes = dict.fromkeys(
        f"  {_fix(check, set(failed.loc[failed['check'] == check, 'between']))}" for check in checks
    )
    entries = ", ".join(f"{{overlap: {check}, reason: ...}}" for check in checks)
    whose = f"contrasts.{contrast}." if contrast else ""
    raise UserError(
        "\n".join(
            [
                f"the folds{f' of the contrast {contrast!r}' if contrast else ''} share what a fair test keeps apart:",
                *lines,
                "Change the folds or the data:",
                *fixes,
                "or, where it is meant, say why in the study; the report prints it:",
                f"  {whose}audit: {{accept: [{entries}]}}",
            ]
        )
    )


def _fix(check: str, between: set[str]) -> str:
    group = {"speaker": "speaker", "sentence": "sentence_id", "session": "session"}.get(check)
    if group and between == {"train-dev"}:
        return f"`dev: {{fraction: 0.1, group: {group}}}` under `folds` keeps the dev rows apart."
    return _FIX[check]


def _shared(
    utterances: pd.DataFrame,
    groups: Groups,
    roles: NDArray[np.int64],
    present: Sequence[int],
    one_side: bool,
) -> Iterator[dict[str, Any]]:
    """What each pair of roles shares. With `one_side`, a group in one of them is enough."""
    counts = count(groups.codes, int(groups.codes.max(initial=-1)) + 1, roles)
    ids = utterances["utterance_id"]
    for first, second in combinations(present, 2):
        both = counts[:, [first, second]] > 0
        shared = np.flatnonzero(both.any(axis=1) if one_side else both.all(axis=1))
        examples = []
        for code in shared[:EXAMPLES]:
            members = [
                np.flatnonzero((groups.codes == code) & (roles == r)) for r in (first, second)
            ]
            found = [
                f"{ids[rows[0]]} ({ROLES[role]})"
                for role, rows in zip((first, second), members, strict=True)
                if len(rows)
            ]
            name = "" if groups.names is None else f"{groups.names[code]}: "
            examples.append(name + ", ".join(found))
        more = f"; and {len(shared) - EXAMPLES} more" if len(shared) > EXAMPLES else ""
        # Nothing found means nothing where one of the sides could not be looked at.
        blind = groups.unseen is not None and any(
            groups.unseen[roles == role].all() for role in (first, second)
        )
        found_none = "not_checked" if groups.absent or blind else "ok"
        yield {
            "between": f"{ROLES[first]}-{ROLES[second]}",
            "status": "failed" if len(shared) else found_none,
            "groups": len(shared),
            "utterances_first": int(counts[shared, first].sum()),
            "utterances_second": int(counts[shared, second].sum()),
            "examples": "; ".join(examples) + more or None,
            "detail": groups.absent or groups.detail,
        }


def _accepted(findings: pd.DataFrame, accept: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Mark what the study accepts; entries that accept nothing become findings themselves."""
    findings = findings.astype({"reason": object})
    idle = {}
    for entry in accept:
        overlap, roles = entry["overlap"], entry.get("between")
        between = "-".join(sorted(roles, key=ROLES.index)) if roles else None
        mine = findings["check"] == overlap
        if between:
            mine &= findings["between"] == between
        failed = mine & (findings["status"] == "failed")
        findings.loc[failed, ["status", "reason"]] = ["accepted", entry["reason"]]
        if not failed.any():
            made = (findings.loc[mine, "status"] != "not_checked").any()
            because = "does not occur" if made or not mine.any() else "cannot be checked"
            named = " ".join(filter(None, (overlap, between)))
            idle[named] = {
                "fold": ALL_FOLDS,
                "check": "accept_entry",
                "between": named,
                "status": "warning",
                "groups": 0,
                "utterances_first": 0,
                "utterances_second": 0,
                "reason": entry["reason"],
                "detail": f"accept entry not needed, as this {because}: remove it",
            }
    if not idle:
        return findings
    return pd.concat([findings, pd.DataFrame(list(idle.values()))], ignore_index=True)
