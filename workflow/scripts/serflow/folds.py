"""Who is trained on, who chooses, who is tested: protocols that give every utterance its role."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

from serflow.errors import UserError, name_some
from serflow.tables import FOLDS

ROLES = ("train", "dev", "test")


def assign(
    utterances: pd.DataFrame,
    protocol: str,
    *,
    group: str | None = None,
    k: int | None = None,
    groups: int | None = None,
    seed: int = 0,
    dev: str = "none",
) -> tuple[pd.DataFrame, list[str]]:
    """Give every utterance a role in every fold.

    The result depends on the utterances, not on their order. Groups of two corpora are distinct
    even where they have one name: speaker 01 of one corpus is not speaker 01 of another.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES` with `label` filled.
    protocol : {'official', 'stratified_k_fold', 'grouped_k_fold', 'leave_one_group_out'}
        'official' takes `split` as it is. The others are scikit-learn's StratifiedKFold (shuffled),
        StratifiedGroupKFold (shuffled) and LeaveOneGroupOut.
    group : {'speaker', 'session', 'sentence_id'}
        What is never on both sides; for the last two protocols.
    k : int
        Number of folds; for the two k-fold protocols.
    groups : int
        Number of groups that the study expects; for 'leave_one_group_out'.
    seed : int
        For the two k-fold protocols.
    dev : {'none', 'next_fold'}
        'next_fold': the test rows of the next fold (of the first, for the last fold) are this
        fold's dev rows and leave its training rows. 'official' has its own.

    Returns
    -------
    folds : DataFrame
        `tables.FOLDS`, one row an utterance and fold, ordered by fold and utterance id.
    notes : list of str
        For the report: folds whose test rows lack a class. Metrics pool the folds' test rows, so
        this is no fault; a metric of such a fold alone would be.

    Raises
    ------
    UserError
        A needed `label`, `split` or group is missing; fewer groups than folds; another number of
        groups than declared; a fold without test rows; training rows or dev rows (or the test rows
        of the official split) that lack a class; a group on both sides.
    """
    utterances = utterances.sort_values("utterance_id", ignore_index=True)
    _refuse_missing(utterances, "label")
    if protocol == "official":
        _refuse_missing(utterances, "split")
        roles = [utterances["split"].to_numpy(dtype=object)]
    else:
        tests = _test_rows(utterances, protocol, group, k, groups, seed)
        roles = _roles(tests, dev)
    ids = utterances["utterance_id"].to_numpy(dtype=object)
    folds = pd.concat(
        [
            pd.DataFrame({"utterance_id": ids, "fold": str(name), "role": role})
            for name, role in enumerate(roles)
        ],
        ignore_index=True,
    )
    FOLDS.check(folds, f"by protocol {protocol}")
    needs_dev = protocol == "official" or dev != "none"
    notes = _check_classes(utterances, folds, needs_dev, official=protocol == "official")
    if group is not None:
        check_disjoint(utterances, folds, group)
    return folds, notes


def check_disjoint(utterances: pd.DataFrame, folds: pd.DataFrame, group: str) -> None:
    """Raise UserError if, in any fold, a group has utterances in more than one role.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES`.
    folds : DataFrame
        `tables.FOLDS`, of any making.
    group : str
        Column of `utterances`.
    """
    groups = utterances[["utterance_id"]].assign(group=_groups(utterances, group))
    rows = folds.merge(groups, on="utterance_id")
    spread = rows.groupby(["fold", "group"])["role"].agg(lambda roles: sorted(set(roles)))
    leaks = [
        f"{name} ({' and '.join(roles)} of fold '{fold}')"
        for (fold, name), roles in spread.items()
        if len(roles) > 1
    ]
    if leaks:
        raise UserError(f"{len(leaks)} times a {group} is on both sides: {name_some(leaks)}")


def describe(utterances: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Count utterances by fold, role and class, zeros included.

    Returns
    -------
    DataFrame
        Columns fold, role, label, utterances; folds and roles that have rows, in their order,
        classes sorted.
    """
    rows = folds.merge(utterances[["utterance_id", "label"]], on="utterance_id")
    counts = rows.groupby(["fold", "role", "label"]).size()
    labels = sorted(set(rows["label"]))
    used = rows[["fold", "role"]].drop_duplicates()
    order = sorted(
        used.itertuples(index=False, name=None),
        key=lambda pair: (int(pair[0]), ROLES.index(pair[1])),
    )
    return pd.DataFrame(
        [(*pair, label, int(counts.get((*pair, label), 0))) for pair in order for label in labels],
        columns=["fold", "role", "label", "utterances"],
    )


def _refuse_missing(utterances: pd.DataFrame, column: str) -> None:
    gaps = utterances.loc[utterances[column].isna(), "utterance_id"]
    if len(gaps):
        raise UserError(
            f"{len(gaps)} of {len(utterances)} utterances have no {column}: {name_some(gaps)}. "
            "The folds of this study need one for each."
        )


def _groups(utterances: pd.DataFrame, group: str) -> np.ndarray:
    _refuse_missing(utterances, group)
    return (utterances["corpus"] + "/" + utterances[group]).to_numpy(dtype=str)


def _test_rows(
    utterances: pd.DataFrame,
    protocol: str,
    group: str | None,
    k: int | None,
    groups: int | None,
    seed: int,
) -> list[np.ndarray]:
    """Row numbers of each fold's test rows."""
    labels = utterances["label"].to_numpy(dtype=str)
    if protocol == "stratified_k_fold":
        if len(labels) < k:
            raise UserError(f"{k} folds need at least {k} utterances, there are {len(labels)}")
        names, splitter = None, StratifiedKFold(k, shuffle=True, random_state=seed)
    elif protocol in ("grouped_k_fold", "leave_one_group_out"):
        names = _groups(utterances, group)
        found = sorted(set(names))
        shown = name_some(found, 20)
        if protocol == "leave_one_group_out":
            if len(found) != groups:
                raise UserError(
                    f"folds.groups is {groups}, but the utterances have {len(found)} values of "
                    f"{group}: {shown}. Set folds.groups: {len(found)}, or look for the difference."
                )
            splitter = LeaveOneGroupOut()
        else:
            if len(found) < k:
                raise UserError(
                    f"folds.k is {k}, but the utterances have {len(found)} values of {group}: "
                    f"{shown}. A group is never divided, so k can be {len(found)} at most."
                )
            splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    else:
        raise ValueError(f"unknown protocol {protocol!r}")
    with warnings.catch_warnings():
        # A class with fewer members than folds: our own check below names fold and class.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        try:
            return [test for _, test in splitter.split(labels, labels, names)]
        except ValueError as error:
            raise UserError(f"folds.protocol {protocol}: {error}") from None


def _roles(tests: list[np.ndarray], dev: str) -> list[np.ndarray]:
    if dev == "next_fold" and len(tests) < 3:
        raise UserError(
            f"folds.dev is next_fold, but of {len(tests)} folds none is left to train on: use 3"
        )
    size = sum(len(test) for test in tests)
    roles = []
    for fold, test in enumerate(tests):
        role = np.full(size, "train", dtype=object)
        if dev == "next_fold":
            role[tests[(fold + 1) % len(tests)]] = "dev"
        role[test] = "test"
        roles.append(role)
    return roles


def _check_classes(
    utterances: pd.DataFrame, folds: pd.DataFrame, needs_dev: bool, official: bool
) -> list[str]:
    """Every class is learnt and, where dev rows choose something, chosen on."""
    labels = dict(zip(utterances["utterance_id"], utterances["label"], strict=True))
    classes = sorted(set(labels.values()))
    present = folds["utterance_id"].map(labels).groupby([folds["fold"], folds["role"]]).agg(set)
    advice = (
        "Correct the corpus's split, or use another protocol."
        if official
        else "Use fewer folds or another protocol, or map or drop the class in `labels`."
    )
    notes = []
    for fold in dict.fromkeys(folds["fold"]):
        for role in ROLES if needs_dev else ("train", "test"):
            found = present.get((fold, role), set())
            if not found:
                raise UserError(f"fold '{fold}' has no {role} rows. {advice}")
            missing = [name for name in classes if name not in found]
            if not missing:
                continue
            if role != "test" or official:
                raise UserError(
                    f"the {role} rows of fold '{fold}' have no utterance of class "
                    f"{name_some(missing)}. {advice}"
                )
            notes.append(f"the test rows of fold '{fold}' have no {name_some(missing)}")
    return notes
