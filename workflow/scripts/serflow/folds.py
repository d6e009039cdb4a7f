"""Who is trained on, who chooses, who is tested: protocols that give every utterance its role."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import (
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from serflow.digests import canonical, digest
from serflow.errors import UserError, name_some
from serflow.tables import FOLDS

ROLES = ("train", "dev", "test")
K_FOLD = ("k_fold", "stratified_k_fold", "grouped_k_fold")


def assign(
    utterances: pd.DataFrame,
    protocol: str,
    *,
    group: str | None = None,
    k: int | None = None,
    groups: int | None = None,
    test: float | None = None,
    stratify: bool = False,
    seed: int = 0,
    order: str = "utterance_id",
    dev: str | Mapping[str, Any] = "none",
    dev_per_class: int | None = None,
    train_only: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """Give every utterance a role in every fold.

    The result depends on the utterances, not on their order. Groups of two corpora are distinct
    even where they have one name: speaker 01 of one corpus is not speaker 01 of another.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES` with `label` filled.
    protocol : str
        'official' takes `split` as it is; 'own_folds' tests in each fold the utterances of one value
        of `test_fold`, in the order of `own_folds`. The others are scikit-learn's: 'k_fold' (KFold),
        'stratified_k_fold' (StratifiedKFold), 'grouped_k_fold' (StratifiedGroupKFold), all
        shuffled; 'leave_one_group_out' (LeaveOneGroupOut); 'random_split' (ShuffleSplit,
        StratifiedShuffleSplit or GroupShuffleSplit), one fold.
    group : {'speaker', 'session', 'sentence_id'}, optional
        What is never on both sides: of 'grouped_k_fold', 'leave_one_group_out' and, where given,
        'random_split'.
    k : int
        Number of folds; for the k-fold protocols and 'own_folds'.
    groups : int
        Number of groups that the study expects; for 'leave_one_group_out'.
    test : float
        Share of the utterances (with `group`: of the groups) to test on; for 'random_split'.
    stratify : bool
        Keep the classes' shares in 'random_split'; not with `group`.
    seed : int
        Of all that is drawn: shuffles, dev rows.
    order : {'utterance_id', 'position'}
        What a shuffle starts from. 'position', the corpus's own order, reproduces published folds.
    dev : {'none', 'next_fold'} or mapping
        'next_fold': the test rows of the next fold (of the first, for the last fold) are this
        fold's dev rows and leave its training rows. A mapping draws them from each fold's training
        rows: `fraction` in (0, 1), `stratify`, and `group` for dev rows that share no group with
        the rest (the fraction is then one of the groups). 'official' has its own dev rows.
    dev_per_class : int, optional
        Keep so many dev rows of each class, drawn at random (TalTech's Dev_bal has 300); the other
        dev rows have no role. A class with fewer keeps what it has, and a note says so.
    train_only : sequence of str
        Classes that are learnt and never scored: their dev and test rows have no role.

    Returns
    -------
    folds : DataFrame
        `tables.FOLDS`, one row an utterance and fold, ordered by fold and utterance id.
    notes : list of str
        For the report: folds whose test rows lack a class (metrics pool the folds' test rows, so
        this is no fault; a metric of such a fold alone would be), and what `dev_per_class` did.

    Raises
    ------
    UserError
        A needed `label`, `split`, `test_fold`, `position` or group is missing; fewer groups than folds; another
        number of groups than declared; a fold without test rows; training rows or dev rows (or the
        test rows of a single fold) that lack a class; a group on both sides.
    """
    utterances = _sorted(utterances, order)
    _refuse_missing(utterances, "label")
    single = protocol in ("official", "random_split")
    if protocol == "official":
        _refuse_missing(utterances, "split")
        roles = [utterances["split"].to_numpy(dtype=object)]
    else:
        tests = _test_rows(utterances, protocol, group, k, groups, test, stratify, seed)
        roles = _roles(utterances, tests, dev, seed)
    notes = _leave_out(utterances, roles, train_only)
    if dev_per_class is not None:
        notes += _balance_dev(utterances, roles, dev_per_class, seed, train_only)
    ids = utterances["utterance_id"].to_numpy(dtype=object)
    by_id = np.argsort(ids.astype(str))
    folds = pd.concat(
        pd.DataFrame({"utterance_id": ids[by_id], "fold": str(name), "role": role[by_id]})
        for name, role in enumerate(roles)
    )
    folds = folds[folds["role"] != ""].reset_index(drop=True)
    FOLDS.check(folds, f"by protocol {protocol}")
    needs_dev = protocol == "official" or dev != "none"
    notes += _check_classes(utterances, folds, needs_dev, single, train_only)
    if group is not None:
        # What the study itself draws for dev is the leakage audit's business.
        held = folds if isinstance(dev, str) else folds[folds["role"] != "dev"]
        check_disjoint(utterances, held, group)
    return folds, notes


def own_folds(utterances: pd.DataFrame) -> list[str]:
    """The values of `test_fold` in the order of the folds: numbers by size, names by the alphabet.

    Examples
    --------
    >>> own_folds(pd.DataFrame({"test_fold": ["10", "9", "10"]}))
    ['9', '10']
    """
    values = set(utterances["test_fold"].dropna())
    numbered = all(value.isdecimal() for value in values)
    return sorted(values, key=(lambda value: (int(value), value)) if numbered else None)


def folds_digest(folds: pd.DataFrame) -> str:
    """First 16 hex digits of the SHA-256 over every utterance's role in every fold.

    Two groups with equal digests have trained and tested on the same utterances.
    """
    rows = folds.sort_values(["fold", "utterance_id"])[["utterance_id", "fold", "role"]]
    return digest(canonical(rows.to_numpy().tolist()))


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


def _sorted(utterances: pd.DataFrame, order: str) -> pd.DataFrame:
    if order == "position":
        _refuse_missing(utterances, "position")
        # By id where positions are tied: the table's own order must not matter.
        return utterances.sort_values(["corpus", "position", "utterance_id"], ignore_index=True)
    return utterances.sort_values("utterance_id", ignore_index=True)


def _test_rows(
    utterances: pd.DataFrame,
    protocol: str,
    group: str | None,
    k: int | None,
    groups: int | None,
    test: float | None,
    stratify: bool,
    seed: int,
) -> list[np.ndarray]:
    """Row numbers of each fold's test rows."""
    if protocol == "own_folds":
        return _own_test_rows(utterances, k)
    labels = utterances["label"].to_numpy(dtype=str)
    names = None if group is None else _groups(utterances, group)
    found = [] if names is None else sorted(set(names))
    shown = name_some(found, 20)
    if protocol in K_FOLD and k is not None and len(labels) < k:
        raise UserError(f"{k} folds need at least {k} utterances, there are {len(labels)}")
    if protocol == "k_fold":
        splitter = KFold(k, shuffle=True, random_state=seed)
    elif protocol == "stratified_k_fold":
        splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
    elif protocol == "grouped_k_fold":
        if len(found) < k:
            raise UserError(
                f"folds.k is {k}, but the utterances have {len(found)} values of {group}: "
                f"{shown}. A group is never divided, so k can be {len(found)} at most."
            )
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    elif protocol == "leave_one_group_out":
        if len(found) != groups:
            raise UserError(
                f"folds.groups is {groups}, but the utterances have {len(found)} values of "
                f"{group}: {shown}. Set folds.groups: {len(found)}, or look for the difference."
            )
        splitter = LeaveOneGroupOut()
    elif protocol == "random_split":
        splitter = _one_split(test, len(labels), names, stratify, seed)
    else:
        raise ValueError(f"unknown protocol {protocol!r}")
    with warnings.catch_warnings():
        # A class with fewer members than folds: our own check below names fold and class.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        try:
            return [rows for _, rows in splitter.split(labels, labels, names)]
        except ValueError as error:
            raise UserError(f"folds.protocol {protocol}: {error}") from None


def _own_test_rows(utterances: pd.DataFrame, k: int) -> list[np.ndarray]:
    _refuse_missing(utterances, "test_fold")
    found = own_folds(utterances)
    if len(found) != k:
        raise UserError(
            f"folds.k is {k}, but the utterances have {len(found)} values of test_fold: "
            f"{name_some(found, 20)}. Set folds.k: {len(found)}, or correct the column."
        )
    return [np.flatnonzero(utterances["test_fold"] == value) for value in found]


def _one_split(
    fraction: float, size: int, names: np.ndarray | None, stratify: bool, seed: int
) -> ShuffleSplit | StratifiedShuffleSplit | GroupShuffleSplit:
    if names is not None:
        return GroupShuffleSplit(1, test_size=fraction, random_state=seed)
    # Rounded, where scikit-learn would round up: 20 % of 12,162 utterances are 2,432, as published.
    count = round(fraction * size)
    if not 0 < count < size:
        raise UserError(
            f"{fraction:g} of {size} utterances are {count}: use a fraction that leaves some of "
            "them on both sides"
        )
    kind = StratifiedShuffleSplit if stratify else ShuffleSplit
    return kind(1, test_size=count, random_state=seed)


def _roles(
    utterances: pd.DataFrame, tests: list[np.ndarray], dev: str | Mapping[str, Any], seed: int
) -> list[np.ndarray]:
    if dev == "next_fold" and len(tests) < 3:
        raise UserError(
            f"folds.dev is next_fold, but of {len(tests)} folds none is left to train on: use 3"
        )
    roles = []
    for fold, test in enumerate(tests):
        role = np.full(len(utterances), "train", dtype=object)
        if dev == "next_fold":
            role[tests[(fold + 1) % len(tests)]] = "dev"
        role[test] = "test"
        if not isinstance(dev, str):
            rows = np.flatnonzero(role == "train")
            role[rows[_nested_dev(utterances.iloc[rows], fold, **dev, seed=seed)]] = "dev"
        roles.append(role)
    return roles


def _nested_dev(
    train: pd.DataFrame, fold: int, fraction: float, group: str | None, stratify: bool, seed: int
) -> np.ndarray:
    """Row numbers, within a fold's training rows, of its dev rows."""
    labels = train["label"].to_numpy(dtype=str)
    names = None if group is None else _groups(train, group)
    splitter = _one_split(fraction, len(labels), names, stratify, seed)
    try:
        ((_, rows),) = splitter.split(labels, labels, names)
    except ValueError as error:
        raise UserError(f"folds.dev of fold '{fold}': {error}") from None
    return rows


def _leave_out(
    utterances: pd.DataFrame, roles: list[np.ndarray], train_only: Sequence[str]
) -> list[str]:
    """Take the role from all dev and test rows of some classes; in place."""
    notes = []
    unscored = utterances["label"].isin(list(train_only)).to_numpy()
    for fold, role in enumerate(roles):
        out = unscored & np.isin(role, ("dev", "test"))
        if out.any():
            role[out] = ""
            notes.append(
                f"fold '{fold}': {np.count_nonzero(out)} dev and test rows of "
                f"{name_some(train_only, 20)} have no role"
            )
    return notes


def _balance_dev(
    utterances: pd.DataFrame,
    roles: list[np.ndarray],
    per_class: int,
    seed: int,
    train_only: Sequence[str],
) -> list[str]:
    """Take the role from all dev rows but `per_class` of each class; in place."""
    labels = utterances["label"].to_numpy(dtype=str)
    notes = []
    for fold, role in enumerate(roles):
        random = np.random.default_rng(seed)
        before = np.count_nonzero(role == "dev")
        fewer = []
        for label in sorted(set(labels) - set(train_only)):
            rows = np.flatnonzero((role == "dev") & (labels == label))
            if len(rows) < per_class:
                fewer.append(f"{label} {len(rows)}")
            # By utterance id, as `order` must not change who is drawn.
            rows = rows[np.argsort(utterances["utterance_id"].to_numpy(dtype=str)[rows])]
            role[random.permutation(rows)[per_class:]] = ""
        kept = np.count_nonzero(role == "dev")
        notes.append(
            f"fold '{fold}': {kept} of {before} dev rows kept, {per_class} a class"
            + (f"; fewer in {name_some(fewer, 20)}" if fewer else "")
        )
    return notes


def _check_classes(
    utterances: pd.DataFrame,
    folds: pd.DataFrame,
    needs_dev: bool,
    single: bool,
    train_only: Sequence[str],
) -> list[str]:
    """Every class is learnt and, where dev rows choose something, chosen on."""
    labels = dict(zip(utterances["utterance_id"], utterances["label"], strict=True))
    classes = sorted(set(labels.values()))
    present = folds["utterance_id"].map(labels).groupby([folds["fold"], folds["role"]]).agg(set)
    advice = (
        "Correct the split, or use another protocol."
        if single
        else "Use fewer folds or another protocol, or map or drop the class in `labels`."
    )
    notes = []
    for fold in dict.fromkeys(folds["fold"]):
        for role in ROLES if needs_dev else ("train", "test"):
            found = present.get((fold, role), set())
            if not found:
                raise UserError(f"fold '{fold}' has no {role} rows. {advice}")
            wanted = set(classes) if role == "train" else set(classes) - set(train_only)
            missing = sorted(wanted - found)
            if not missing:
                continue
            if role != "test" or single:
                raise UserError(
                    f"the {role} rows of fold '{fold}' have no utterance of class "
                    f"{name_some(missing)}. {advice}"
                )
            notes.append(f"the test rows of fold '{fold}' have no {name_some(missing)}")
    return notes
