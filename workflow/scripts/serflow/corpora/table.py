"""A table: anyone's own corpus, declared in the study without a line of code.

What      One row an utterance in a CSV (comma or semicolon), TSV or Parquet file: `path` or `text`,
          `label`, and any further column of the listing (speaker, gender, language, session, style,
          sentence_id, arousal, valence, dominance, split, start, end ...). Other columns are mapped
          (`columns`) or let go of (`ignore`) in the study; nothing is guessed.
Who       You.
Licence   Yours.
Where     The folder under `paths` in config.yaml, by the corpus's name in the study.
Holes     Without `speaker` no fold can be disjoint in speakers: say so with the number. An unknown speaker,
          session or sentence is an empty cell; NA, nan, none, null, unknown, ? and - count as one.
          `start` and `end` are seconds in the file, and such segments need an `utterance_id`. Counts are
          compared with what you expect only where the study gives `counts`.
"""

from __future__ import annotations

import csv
import difflib
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some
from serflow.tables import LISTING, NUMBER

FORMATS = (".csv", ".tsv", ".parquet")
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
    audio: str = ".",
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
        Folder that `path` starts from, seen from `root`, or absolute.
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
    root = gates.corpus_folder(corpus, root, f"{table} and the audio")
    frame, decimal = _read_file(corpus, root / table)
    frame = _rename(corpus, table, frame, columns or {}, constants or {}, ignore)
    _refuse_nested(corpus, table, frame)
    texts = [c for c in frame if c not in NUMBERS]
    frame[texts] = frame[texts].map(_as_text)
    for column in NUMBERS:
        if column in frame:
            frame[column] = _numbers(corpus, table, frame[column], decimal)
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
    paths = [None if pd.isna(p) else _below(p, audio) for p in frame["path"]]
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
        "are missing, and there is no path to use instead; give every text an id of its own in "
        "the column `utterance_id`",
    )
    refuse(
        ids,
        ids.duplicated(),
        "are there before: utterance_id must be unique. Where several utterances share a file, "
        "name each in the column `utterance_id`",
    )
    frame["path"] = [None if p is None else posixpath.normpath(f"{audio}/{p}") for p in paths]
    frame["label_raw"], frame["position"] = frame.pop("label"), range(len(frame))
    frame["utterance_id"] = [f"{corpus}/{i}" for i in ids]
    if counts:
        _check_counts(corpus, table, frame["label_raw"], counts)
    return gates.listing(corpus, frame.astype(object).where(frame.notna(), None).to_dict("records"))


def _read_file(corpus: str, path: Path) -> tuple[pd.DataFrame, str]:
    """The table, and the decimal sign of its numbers."""
    if path.suffix.lower() not in FORMATS or not path.is_file():
        raise UserError(
            f"corpus '{corpus}': {path} is not a file in one of the formats {', '.join(FORMATS)}; "
            "name it in the study under `table`"
        )
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
            frame = frame.reset_index() if any(frame.index.names) else frame
            decimal = "."
        else:
            frame, separator = _read_delimited(path)
            # Spreadsheets write semicolons where numbers have decimal commas.
            decimal = "," if separator == ";" else "."
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(
            f"corpus '{corpus}': cannot read {path}: {error}. Save it as UTF-8 with the same "
            "number of fields in every row."
        ) from None
    if frame.empty:
        raise UserError(f"corpus '{corpus}': {path.name} has no rows")
    return frame, decimal


def _read_delimited(path: Path) -> tuple[pd.DataFrame, str]:
    """Read fields as text, and the separator.

    Rows of another length than the first are an error: pandas shifts them.
    """
    with path.open(encoding="utf-8-sig", newline="") as lines:
        head = lines.readline()
        lines.seek(0)
        separator = "\t" if path.suffix.lower() == ".tsv" else max(",;", key=head.count)
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if any(row)]
    header = rows[0][1] if rows else []
    if len(set(header)) < len(header):
        raise ValueError(f"two columns of one name in {', '.join(header)}")
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(f"line {line} has {len(row)} fields, the first line {len(header)}")
    frame = pd.DataFrame([row for _, row in rows[1:]], columns=header, dtype=object)
    return frame.replace("", None), separator


def _rename(
    corpus: str,
    table: str,
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    constants: Mapping[str, str | float],
    ignore: Sequence[str],
) -> pd.DataFrame:
    """The table with our column names, constants filled in."""
    faults = []
    for setting, ours in (("columns", columns), ("constants", constants)):
        strange = [name for name in ours if name not in KNOWN]
        if strange:
            faults.append(f"`{setting}` of the study has {_nearest(strange, KNOWN)}, none of ours")
    constants = {name: value for name, value in constants.items() if name in KNOWN}
    columns = {name: theirs for name, theirs in columns.items() if name in KNOWN}
    for setting, names in (("columns", columns.values()), ("ignore", ignore)):
        absent = [name for name in names if name not in frame]
        if absent:
            faults.append(f"`{setting}` names {_nearest(absent, frame)}, which {table} lacks")
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
            f"{table} has the unknown columns {_nearest(unknown, KNOWN)}: map each to one of ours "
            f"(`columns: {{ours: theirs}}`) or let go of it (`ignore: [theirs]`)"
        )
    if not faults and "label" not in frame:
        faults.append(f"{table} lacks the column label")
    if not faults and "path" not in frame and "text" not in frame:
        faults.append(f"{table} lacks the columns path and text, of which one is needed")
    if faults:
        raise UserError(f"corpus '{corpus}': {'; '.join(faults)}. Ours are: {', '.join(KNOWN)}.")
    return frame


def _nearest(names: Sequence[str], known: Any) -> str:
    """The names, each with the known one that it is most like."""
    near = {name: difflib.get_close_matches(name.lower(), list(known), n=1) for name in names}
    return name_some([f"{n} (near {m[0]})" if m else n or repr(n) for n, m in near.items()], 20)


def _refuse_nested(corpus: str, table: str, frame: pd.DataFrame) -> None:
    """Refuse the cells of a Parquet file that are neither text nor number."""
    for column in frame:
        for row, value in enumerate(frame[column], start=1):
            if isinstance(value, bytes) or not pd.api.types.is_scalar(value):
                raise UserError(
                    f"corpus '{corpus}': '{column}' in {table} holds a {type(value).__name__} in "
                    f"row {row}: {str(value)[:80]}; expected text or a number in every cell"
                )


def _as_text(value: Any) -> str | None:
    """Text of a cell; a Parquet column of integers with gaps holds 3.0 for 3."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip() or None


def _numbers(corpus: str, table: str, column: pd.Series, decimal: str) -> pd.Series:
    pointed = column
    # All of a column or none: 1,234 beside 5.6 is no decimal comma.
    if decimal == "," and column.dropna().astype(str).str.fullmatch(r"-?\d+(,\d+)?").all():
        pointed = column.map(lambda v: v.replace(",", ".") if isinstance(v, str) else v)
    numbers = pd.to_numeric(pointed, errors="coerce")
    odd = column[~np.isfinite(numbers.astype(float)) & column.notna()]
    if len(odd):
        raise UserError(
            f"corpus '{corpus}': '{column.name}' in {table} holds {odd.iloc[0]!r} in row "
            f"{odd.index[0] + 1}; expected a number"
        )
    return numbers.astype(float)


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
