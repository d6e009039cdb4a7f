"""What groups utterances: their speaker, sentence, session, text, and the recording they copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from serflow.folds import ROLES
from serflow.leakage.duplicates import LEAST_S

# Shorter texts ("Yes.", "I don't know.") recur in free speech by chance.
TEXT_WORDS = 4
# Seconds; segments are cut to the tenth of a second and may touch.
SHARED_S = 0.1


@dataclass(frozen=True)
class Groups:
    """Which group each utterance belongs to.

    Parameters
    ----------
    codes : ndarray of int, shape (utterances,)
        From 0; -1 for none.
    names : sequence of str, optional
        By code.
    absent : str
        Why nothing can be checked, if so.
    detail : str, optional
        What was left out.
    unseen : ndarray of bool, shape (utterances,), optional
        Those whose groups cannot be known.
    """

    codes: NDArray[np.int64]
    names: Sequence[str] | None = None
    absent: str = ""
    detail: str | None = None
    unseen: NDArray[np.bool_] | None = None


def overlap_groups(utterances: pd.DataFrame, near: pd.DataFrame | None) -> dict[str, Groups]:
    """Group the utterances by all that no two roles should share.

    Parameters
    ----------
    utterances : DataFrame
        Columns utterance_id, corpus, path, speaker, sentence_id, session, text, audio_digest as
        text; channel, start, end (s) as numbers.
    near : DataFrame or None
        `duplicates.near_duplicates`, with its `attrs`; pairs of equal digest are left to
        'duplicate'.

    Returns
    -------
    dict of str to Groups
        By check. The groups of 'unknown_speaker' are the corpora's utterances without speaker.
    """
    corpus = utterances["corpus"] + "/"
    unknown = utterances["speaker"].isna()
    texts = _normalised(utterances["text"]).where(utterances["sentence_id"].isna())
    long = texts.str.count(" ") >= TEXT_WORDS - 1
    countable = f"text of {TEXT_WORDS} or more words, and no sentence_id"
    short = f"texts of fewer than {TEXT_WORDS} words recur by chance and are not counted"
    off = "near duplicates were not looked for (`audit: {near_duplicates: false}`)"
    groups = {
        "speaker": _by_column(corpus + utterances["speaker"], "speaker"),
        "sentence": _by_column(corpus + utterances["sentence_id"], "sentence_id"),
        "session": _by_column(corpus + utterances["session"], "session"),
        "text": _by_column((corpus + texts).where(long), countable, short),
        "duplicate": _recordings(utterances),
        "near_duplicate": Groups(np.full(len(utterances), -1), absent=off),
        "unknown_speaker": _by_column(utterances["corpus"].where(unknown), ""),
    }
    if groups["duplicate"].absent:
        groups["near_duplicate"] = groups["duplicate"]
    elif near is not None:
        groups["near_duplicate"] = _near_duplicates(utterances, near)
    if not unknown.any():
        groups["unknown_speaker"] = Groups(np.full(len(utterances), -1))
    return groups


def _recordings(utterances: pd.DataFrame) -> Groups:
    """Equal recordings by their digest, and segments of one file that overlap."""
    digests = utterances["audio_digest"]
    if digests.isna().all():
        return Groups(np.full(len(utterances), -1), absent="no utterance has audio")
    known = utterances[digests.notna()]
    copies = _neighbours(known.sort_values("audio_digest", kind="stable"))
    copies = copies[copies["audio_digest_a"] == copies["audio_digest_b"]]
    gaps = len(utterances) - len(known)
    detail = f"{gaps} of {len(utterances)} utterances have no audio" if gaps else None
    pairs = pd.concat([copies, _overlapping(known)])
    return Groups(components(utterances["utterance_id"], pairs), detail=detail)


def _overlapping(utterances: pd.DataFrame) -> pd.DataFrame:
    """Pairs of segments of one file that share more than `SHARED_S`."""
    rows = utterances[utterances["path"].notna()].fillna(
        {"channel": -1, "start": 0.0, "end": np.inf}
    )
    file = ["corpus", "path", "channel"]
    rows = rows[rows.duplicated(file, keep=False)].sort_values([*file, "start"])
    # Against all that began before, not the last one alone, which may be short.
    pairs = _neighbours(rows.assign(reach=rows.groupby(file)["end"].cummax()))
    same = np.logical_and.reduce([pairs[f"{c}_a"] == pairs[f"{c}_b"] for c in file])
    shared = np.minimum(pairs["reach_a"], pairs["end_b"]) - pairs["start_b"]
    return pairs[same & (shared > SHARED_S)]


def _neighbours(rows: pd.DataFrame) -> pd.DataFrame:
    """Each row beside the next one, as columns `_a` and `_b`."""
    first = rows.iloc[:-1].reset_index(drop=True).add_suffix("_a")
    return first.join(rows.iloc[1:].reset_index(drop=True).add_suffix("_b"))


def _near_duplicates(utterances: pd.DataFrame, near: pd.DataFrame) -> Groups:
    ids, digests = utterances["utterance_id"], utterances["audio_digest"]
    a, b = (near[c].map(digests.set_axis(ids)) for c in ("utterance_id_a", "utterance_id_b"))
    unseen = {
        "without audio": digests.isna(),
        f"too short to be compared (under {LEAST_S:.2f} s)": ids.isin(
            near.attrs.get("too_short", ())
        ),
        "too quiet to be compared": ids.isin(near.attrs.get("too_quiet", ())),
    }
    counts = [f"{what}: {rows.sum()}" for what, rows in unseen.items() if rows.any()]
    detail = f"of {len(ids)} utterances, {', '.join(counts)}" if counts else None
    blind = np.logical_or.reduce(list(unseen.values()))
    return Groups(components(ids, near[a != b]), detail=detail, unseen=blind)


def _normalised(texts: pd.Series) -> pd.Series:
    """Text without case, punctuation and extra blanks; missing where nothing is left."""
    plain = texts.astype("string").str.normalize("NFKC").str.casefold()
    plain = plain.str.replace(r"[^\w\s]|_", " ", regex=True)
    plain = plain.str.replace(r"\s+", " ", regex=True).str.strip()
    return plain.where(plain != "")


def _by_column(values: pd.Series, column: str, detail: str | None = None) -> Groups:
    codes, names = pd.factorize(values)
    if not len(names):
        return Groups(codes, absent=f"no utterance has {column}")
    gaps = np.count_nonzero(codes < 0)
    if gaps and column and detail is None:
        detail = f"{gaps} of {len(codes)} utterances have no {column}"
    return Groups(codes, list(names), detail=detail)


def components(ids: pd.Series, pairs: pd.DataFrame) -> NDArray[np.int64]:
    """Code of the set of copies that each utterance is in, shape (utterances,); -1 for none.

    Parameters
    ----------
    ids : Series of str, length n
    pairs : DataFrame
        Columns utterance_id_a, utterance_id_b; ids of others are ignored.
    """
    index = pd.Index(ids)
    a, b = (index.get_indexer(pairs[c]) for c in ("utterance_id_a", "utterance_id_b"))
    known = (a >= 0) & (b >= 0)
    graph = coo_matrix((np.ones(known.sum()), (a[known], b[known])), shape=(len(index),) * 2)
    codes = connected_components(graph, directed=False)[1].astype(np.int64)
    return np.where(np.bincount(codes)[codes] > 1, codes, -1)


def count(codes: NDArray[np.int64], size: int, roles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the utterances of each group and role.

    Parameters
    ----------
    codes : ndarray of int, shape (utterances,)
        Group, below `size`; -1 for none.
    size : int
    roles : ndarray of int, shape (utterances,)
        Place in `folds.ROLES`; -1 for none.

    Returns
    -------
    ndarray of int, shape (size, 3)
    """
    used = (codes >= 0) & (roles >= 0)
    flat = np.bincount(codes[used] * len(ROLES) + roles[used], minlength=size * len(ROLES))
    return flat.reshape(size, len(ROLES))
