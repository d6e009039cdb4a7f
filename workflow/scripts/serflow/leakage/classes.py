"""What the audit warns of: other class priors in the test, rare classes, labels that disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from serflow.errors import name_some
from serflow.folds import ROLES
from serflow.leakage.groups import components

EXAMPLES = 3


def prior_distance(counts: NDArray[np.int64], threshold: float) -> Iterator[dict[str, Any]]:
    """Distance between the class priors of train and test; nothing where one has no rows.

    Parameters
    ----------
    counts : ndarray of int, shape (classes, 3)
        Utterances of each class and role of a fold.
    threshold : float
        Total variation distance above which to warn, in [0, 1].

    Yields
    ------
    dict
        Columns of `audit.AUDIT` but the fold's.
    """
    table = counts[:, [ROLES.index("train"), ROLES.index("test")]].T
    sizes = table.sum(axis=1)
    if not sizes.all():
        return
    distance = float(np.abs(np.diff(table / sizes[:, None], axis=0)).sum() / 2)
    seen = table[:, table.any(axis=0)]
    yield {
        "check": "prior_shift",
        "between": "train-test",
        "status": "warning" if distance > threshold else "ok",
        "groups": 0,
        "utterances_first": int(sizes[0]),
        "utterances_second": int(sizes[1]),
        "value": distance,
        "p": float(chi2_contingency(seen).pvalue) if seen.shape[1] > 1 else 1.0,
        "detail": f"total variation distance, warned of above {threshold:g}; p: chi-square",
    }


def small_classes(
    counts: NDArray[np.int64], classes: Sequence[str], present: Sequence[int], least: int
) -> Iterator[dict[str, Any]]:
    """Classes with few utterances in a role, one row a role.

    Parameters
    ----------
    counts : ndarray of int, shape (classes, 3)
    classes : sequence of str
    present : sequence of int
        Roles that the fold has.
    least : int
        Warn of fewer utterances.

    Yields
    ------
    dict
        Columns of `audit.AUDIT` but the fold's.
    """
    for role in present:
        few = np.flatnonzero(counts[:, role] < least)
        yield {
            "check": "small_class",
            "between": ROLES[role],
            "status": "warning" if len(few) else "ok",
            "groups": len(few),
            "utterances_first": int(counts[few, role].sum()),
            "utterances_second": 0,
            "value": float(counts[:, role].min()),
            "examples": ", ".join(f"{classes[i]} {counts[i, role]}" for i in few) or None,
            "detail": f"classes with fewer than {least} utterances",
        }


def conflicting_labels(
    utterances: pd.DataFrame, labels: NDArray[np.int64], near: pd.DataFrame | None
) -> dict[str, Any]:
    """Copies of one recording, in one role or not, that have different labels.

    Parameters
    ----------
    utterances : DataFrame
        Columns utterance_id, label, audio_digest, all text.
    labels : ndarray of int, shape (utterances,)
        Class of each utterance.
    near : DataFrame or None
        `duplicates.near_duplicates`.

    Returns
    -------
    dict
        Columns of `audit.AUDIT` but the fold's.
    """
    ids = utterances["utterance_id"]
    digests = utterances["audio_digest"]
    first = ids.groupby(digests).transform("first")
    same = pd.DataFrame({"utterance_id_a": first, "utterance_id_b": ids})[digests.notna()]
    pairs = same if near is None else pd.concat([same, near[same.columns]])
    codes = pd.Series(components(ids, pairs))
    spread = pd.Series(labels).where(codes >= 0).groupby(codes).transform("nunique")
    odd = np.flatnonzero((spread > 1) & (codes >= 0))
    named = ids.str.cat(utterances["label"], sep=" ")[odd].groupby(codes[odd].to_numpy())
    examples = [" = ".join(members[:EXAMPLES]) for members in named.agg(list)]
    checked = digests.notna().any()
    return {
        "check": "conflicting_labels",
        "between": "any",
        "status": "not_checked" if not checked else "warning" if len(odd) else "ok",
        "groups": len(examples),
        "utterances_first": len(odd),
        "utterances_second": 0,
        "examples": name_some(examples, EXAMPLES) or None,
        "detail": "copies of a recording with different labels" if checked else "no audio",
    }
