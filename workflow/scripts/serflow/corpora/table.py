"""A table: anyone's own corpus, declared in the study without a line of code.

What      One row an utterance in a CSV (comma or semicolon), TSV or Parquet file: `path` or `text`,
          `label`, and any further column of the listing (speaker, gender, language, session, style,
          sentence_id, arousal, valence, dominance, split, test_fold, start, end ...). Other
          columns are mapped (`columns`) or let go of (`ignore`) in the study; nothing is guessed.
Who       You.
Licence   Yours.
Where     The folder under `paths` in config.yaml, by the corpus's name in the study; or the study's
          own `folder`, for a small table that comes with it.
Holes     With `audio: null` a row is a label without audio or text, for posteriors made elsewhere
          (docs/your_posteriors.md). Without `speaker` no fold can be disjoint in speakers: say so with
          the number. An unknown speaker, session or sentence is an empty cell; NA, nan, none, null,
          unknown, ? and - count as one. `start` and `end` are seconds in the file, and such segments
          need an `utterance_id`. Counts are compared with what you expect only where the study gives
          `counts`.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PureWindowsPath

import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some
from serflow.sheets import as_text, nearest, numbers, read_sheet, refuse_nested
from serflow.tables import LISTING, NUMBER

KNOWN = tuple(c for c in LISTING.columns if c not in ("corpus", "label_raw", "position"))
NUMBERS = tuple(c for c in KNOWN if LISTING.columns[c] == NUMBER)
GENDERS = {"female": "female", "f": "female", "w": "female", "male": "male", "m": "male"}
# What R, pandas and people write for an empty cell; in these columns it would be one person, one
# session or one sentence.
IDENTITIES = ("speaker", "session", "sentence_id")
UNKNOWN = {"na", "n/a", "nan", "none", "null", "unknown", "?", "-"}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "eval"), "test"),
}


def read(
    root: str | Path,
    *,
    corpus: str,
    table: str,
    audio: str | None = ".",
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str | float] | None = None,
    ignore: Sequence[str] = (),
    counts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
    corpus : str
        Name of the corpus, and first part of every utterance id.
    table : str
        The table, seen from `root`: .csv, .tsv or .parquet.
    audio : str
        Folder that `path` starts from, seen from `root`, or absolute. None: there is no audio, and
        a `path` is no more than a name.
    columns : mapping of str to str
        Our column name -> the table's, where they differ.
    constants : mapping of str to str or float
        Our column name -> one value for all rows.
    ignore : sequence of str
        The table's columns that are let go of.
    counts : mapping of str to int
        Utterances of each label; where given, other counts are an error.

    Returns
    -------
    DataFrame
        `tables.LISTING`; ids are `<corpus>/<utterance_id or path>`, paths relative to `root`
        (absolute where `audio` is), `position` the row in the table, from 0.

    Raises
    ------
    UserError
        No such folder or table, missing or unknown columns, values outside the vocabularies, text
        where a number belongs, paths that leave `audio`, rows without a label outside the test
        part, ids that are there twice, or other counts than given.
    """
    root = gates.corpus_folder(corpus, root, f"{table} and the audio" if audio else table)
    whose = f"corpus '{corpus}'"
    frame, decimal = read_sheet(root / table, whose, "table")
    needed = ("path", "utterance_id" if audio is None else "text")
    frame = _rename(corpus, table, frame, columns or {}, constants or {}, ignore, needed)
    refuse_nested(frame, table, whose)
    texts = [c for c in frame if c not in NUMBERS]
    frame[texts] = frame[texts].map(as_text)
    for column in NUMBERS:
        if column in frame:
            frame[column] = numbers(frame[column], decimal, table, whose)
    frame = frame.reindex(columns=list(KNOWN))
    frame["gender"] = _translate(corpus, table, frame["gender"], GENDERS)
    frame["split"] = _translate(corpus, table, frame["split"], SPLITS)
    for column in IDENTITIES:
        frame[column] = [None if str(v).lower() in UNKNOWN else v for v in frame[column]]
    refuse = partial(_refuse, corpus, table)
    channels = frame["channel"].astype(float)
    refuse(
        frame["channel"],
        (channels < 0) | (channels % 1 > 0),
        "are no channel; count from 0, or leave it out for the mean of all",
    )
    paths = [
        None if pd.isna(p) else p if audio is None else _below(p, audio) for p in frame["path"]
    ]
    refuse(
        frame["path"],
        [p == "" for p in paths],
        f"leave {audio!r}, the folder that paths start from; write them as seen from there, or "
        "change `audio`",
    )
    refuse(
        frame["label"],
        frame["label"].isna() & (frame["split"] != "test"),
        "are missing outside the test part; label these rows, give them `split` test, or take "
        "them out",
    )
    ids = frame["utterance_id"].where(frame["utterance_id"].notna(), paths)
    refuse(
        ids,
        ids.isna(),
        "are missing, and there is no path to use instead; give every row an id of its own in "
        "the column `utterance_id`",
    )
    refuse(
        ids,
        ids.duplicated(),
        "are there before: utterance_id must be unique. Where several utterances share a file, "
        "name each in the column `utterance_id`",
    )
    frame["path"] = [
        None if p is None or audio is None else posixpath.normpath(f"{audio}/{p}") for p in paths
    ]
    frame["label_raw"], frame["position"] = frame.pop("label"), range(len(frame))
    frame["utterance_id"] = [f"{corpus}/{i}" for i in ids]
    if counts:
        _check_counts(corpus, table, frame["label_raw"], counts)
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return gates.listing(corpus, records, bare=audio is None)


def _rename(
    corpus: str,
    table: str,
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    constants: Mapping[str, str | float],
    ignore: Sequence[str],
    needed: Sequence[str],
) -> pd.DataFrame:
    """The table with our column names, constants filled in."""
    faults = []
    for setting, ours in (("columns", columns), ("constants", constants)):
        strange = [name for name in ours if name not in KNOWN]
        if strange:
            faults.append(f"`{setting}` of the study has {nearest(strange, KNOWN)}, none of ours")
    constants = {name: value for name, value in constants.items() if name in KNOWN}
    columns = {name: theirs for name, theirs in columns.items() if name in KNOWN}
    for setting, names in (("columns", columns.values()), ("ignore", ignore)):
        absent = [name for name in names if name not in frame]
        if absent:
            faults.append(f"`{setting}` names {nearest(absent, frame)}, which {table} lacks")
    frame = frame.drop(columns=list(ignore), errors="ignore")
    taken = [c for c in columns if c in frame and c not in columns.values()]
    taken += [c for c in constants if c in columns or (c in frame and c not in columns.values())]
    if taken:
        faults.append(
            f"`columns` or `constants` give {name_some(taken)}, which {table} has itself: `ignore` "
            "one of them"
        )
    mapped = {ours: frame[theirs] for ours, theirs in columns.items() if theirs in frame}
    frame = frame.drop(columns=[c for c in frame if c in columns.values()])
    frame = frame.assign(**mapped, **{c: v for c, v in constants.items() if c not in taken})
    unknown = [str(c) for c in frame if c not in KNOWN]
    if unknown:
        faults.append(
            f"{table} has the unknown columns {nearest(unknown, KNOWN)}: map each to one of ours "
            f"(`columns: {{ours: theirs}}`) or let go of it (`ignore: [theirs]`)"
        )
    if not faults and "label" not in frame:
        faults.append(f"{table} lacks the column label")
    if not faults and not set(needed) & set(frame):
        faults.append(f"{table} lacks the columns {' and '.join(needed)}, of which one is needed")
    if faults:
        raise UserError(f"corpus '{corpus}': {'; '.join(faults)}. Ours are: {', '.join(KNOWN)}.")
    return frame


def _translate(
    corpus: str, table: str, column: pd.Series, ours: Mapping[str, str]
) -> list[str | None]:
    """Our word for every value, in any case."""
    odd = sorted({str(v) for v in column.dropna() if v.lower() not in ours})
    if odd:
        raise UserError(
            f"corpus '{corpus}': '{column.name}' in {table} holds {name_some(odd)}; expected one "
            f"of {', '.join(ours)} (in any case), or nothing where it is unknown"
        )
    return [None if pd.isna(v) else ours[v.lower()] for v in column]


def _below(path: str, audio: str) -> str:
    """The path as seen from the audio folder, or '' where it leads elsewhere."""
    path = posixpath.normpath(path.replace("\\", "/"))
    if posixpath.isabs(path) and posixpath.isabs(audio):
        path = posixpath.relpath(path, audio)
    outside = path in (".", "..") or path.startswith(("/", "../")) or PureWindowsPath(path).drive
    return "" if outside else path


def _refuse(corpus: str, table: str, column: pd.Series, bad: Sequence[bool], fault: str) -> None:
    rows = [
        f"row {i + 1}" + ("" if pd.isna(v) else f" ({v})")
        for i, (v, is_bad) in enumerate(zip(column, bad, strict=True))
        if is_bad
    ]
    if rows:
        raise UserError(
            f"corpus '{corpus}': {len(rows)} values of '{column.name}' in {table} {fault}: "
            f"{name_some(rows)}."
        )


def _check_counts(corpus: str, table: str, labels: pd.Series, counts: Mapping[str, int]) -> None:
    found = Counter(labels.dropna())
    apart = [
        f"{label}: {found[label]}, expected {counts.get(label, 0)}"
        for label in sorted(set(found) | set(counts))
        if found[label] != counts.get(label, 0)
    ]
    if apart:
        raise UserError(
            f"corpus '{corpus}': {table} has other counts than the study's `counts`: "
            f"{name_some(apart, 20)}. Complete the table, or correct `counts`."
        )
