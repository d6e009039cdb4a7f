"""Anyone's own corpus: a table of audio paths and labels, declared in the study's YAML.

What: one row an utterance in a CSV, TSV or Parquet file; `path` and `label` are needed, and any
column of the utterance table may follow (speaker, gender, language, session, style, sentence_id,
text, arousal, valence, dominance, split, start, end). Other columns are refused unless the study
maps them.
Who, licence: yours.
Holes: without `speaker`, no fold can be speaker-disjoint; say so when you report the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some
from serflow.tables import LISTING, NUMBER

READERS = {
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False),
    ".tsv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, sep="\t"),
    ".parquet": pd.read_parquet,
}
COMPUTED = ("corpus", "label_raw")


def read(
    root: str | Path, *, corpus: str, table: str, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that `path` is relative to, and `table` as well.
    corpus : str
        Name of the corpus, and first part of every utterance id.
    table : str
        File name of the table: .csv, .tsv or .parquet.
    columns : mapping of str to str
        Our column name -> the table's, where they differ.

    Returns
    -------
    DataFrame
        `tables.LISTING`; utterance ids are `<corpus>/<utterance_id or path>`.

    Raises
    ------
    UserError
        No such folder or table, missing or unknown columns, text where a number belongs.
    """
    root = gates.corpus_folder(corpus, root, f"{table} and the audio")
    file = root / table
    reader = READERS.get(file.suffix.lower())
    if reader is None or not file.is_file():
        raise UserError(
            f"corpus '{corpus}': {file} is not a file in one of the formats {', '.join(READERS)}; "
            "name it in the study under `table`"
        )
    try:
        frame = reader(file)
    except (ValueError, OSError) as error:
        raise UserError(
            f"corpus '{corpus}': cannot read {file}: {error}. Save it as UTF-8 with the same "
            "number of fields in every row."
        ) from None
    columns = columns or {}
    absent = [theirs for theirs in columns.values() if theirs not in frame]
    clash = [ours for ours in columns if ours in frame and ours not in columns.values()]
    if absent or clash:
        raise UserError(
            f"corpus '{corpus}': `columns` names {name_some(absent) or '(none)'}, which {table} "
            f"lacks; {name_some(clash) or '(none)'} is in it beside what is mapped to it"
        )
    if frame.empty:
        raise UserError(f"corpus '{corpus}': {table} has no rows")
    frame = frame.rename(columns={theirs: ours for ours, theirs in columns.items()})
    known = [column for column in LISTING.columns if column not in COMPUTED]
    missing = [column for column in ("path", "label") if column not in frame]
    unknown = [column for column in frame if column not in known]
    if missing or unknown:
        raise UserError(
            f"corpus '{corpus}': {table} lacks the columns {name_some(missing) or '(none)'} and "
            f"has unknown ones {name_some(unknown) or '(none)'}; map them in the study under "
            f"`columns` (ours: theirs). Known: {', '.join(known)}"
        )
    frame = frame.replace("", None)
    for column in (c for c, kind in LISTING.columns.items() if kind == NUMBER and c in frame):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        odd = frame.loc[numbers.isna() & frame[column].notna(), column]
        if len(odd):
            raise UserError(
                f"corpus '{corpus}': '{column}' in {table} holds {odd.iloc[0]!r} in row "
                f"{odd.index[0] + 1}; expected a number"
            )
        frame[column] = numbers
    ids = frame["utterance_id"] if "utterance_id" in frame else frame["path"]
    rows = frame.assign(utterance_id=[f"{corpus}/{i}" for i in ids], label_raw=frame["label"])
    return gates.listing(corpus, rows.drop(columns="label").to_dict("records"))
