"""Posteriors of several systems side by side, joined by utterance and fold, never by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from serflow.errors import UserError, name_some
from serflow.posteriors import Posteriors


def row_order(first: pd.DataFrame, other: pd.DataFrame, names: tuple[str, str]) -> np.ndarray:
    """Where the rows of `first` stand in `other`, by utterance and fold.

    Raises
    ------
    UserError
        If one misses rows that the other one has; both are named as in `names`.
    """
    keys, own = (pd.MultiIndex.from_frame(x[["utterance_id", "fold"]]) for x in (first, other))
    order = own.get_indexer(keys)
    lost = [*keys[order < 0], *own.difference(keys)]
    if lost:
        raise UserError(
            f"{names[0]} and {names[1]} do not cover the same utterances; they differ in "
            f"{len(lost)} rows: {name_some(lost)}"
        )
    return order


def stack(
    systems: Mapping[str, Posteriors], missing: Literal["error", "prior"] = "error"
) -> tuple[pd.DataFrame, np.ndarray, dict[str, int]]:
    """Align several systems by utterance and fold.

    Parameters
    ----------
    systems : mapping of str to Posteriors
    missing : {"error", "prior"}
        What becomes of an utterance that some system lacks: an error; or that system says nothing
        about it, its posteriors being the prior that they express in that fold.

    Returns
    -------
    rows : DataFrame
        The rows of the first system; then those that only others have.
    log_proba : ndarray of float, shape (n_systems, n, n_classes)
    filled : dict of str to int
        System -> how many rows it lacked; those without any are left out.

    Raises
    ------
    UserError
        If the class orders differ, systems disagree about a label or a role, or a system misses
        utterances that another one has.
    """
    names = list(systems)
    first = systems[names[0]]
    rows = first.rows
    if missing == "prior":
        rows = pd.concat([system.rows for system in systems.values()])
        rows = rows.drop_duplicates(["utterance_id", "fold"], ignore_index=True)
    keys = pd.MultiIndex.from_frame(rows[["utterance_id", "fold"]])
    stacked, filled = [], {}
    for name in names:
        system = systems[name]
        if system.classes != first.classes:
            raise UserError(
                f"class order of {name} {system.classes} differs from {names[0]} {first.classes}"
            )
        if missing == "error":
            order = row_order(rows, system.rows, (names[0], name))
        else:
            order = pd.MultiIndex.from_frame(system.rows[["utterance_id", "fold"]]).get_indexer(
                keys
            )
        there = order >= 0
        for column in ("label", "role"):
            ours, theirs = rows[column].to_numpy()[there], system.rows[column].to_numpy()
            odd = keys[there][ours != theirs[order[there]]]
            if len(odd):
                raise UserError(
                    f"{names[0]} and {name} disagree about the {column} of {len(odd)} rows: "
                    f"{name_some(odd)}"
                )
        aligned = system.log_proba[order]
        if not there.all():
            filled[name] = int((~there).sum())
            with np.errstate(divide="ignore"):  # a class that no training saw
                aligned[~there] = [
                    np.log(_prior_of(system, fold, name)) for fold in rows["fold"][~there]
                ]
        stacked.append(aligned)
    return rows, np.stack(stacked), filled


def _prior_of(system: Posteriors, fold: str, name: str) -> np.ndarray:
    if fold not in system.priors:
        raise UserError(f"{name} has no rows of fold {fold} at all; no prior can stand in for them")
    return system.priors[fold]
