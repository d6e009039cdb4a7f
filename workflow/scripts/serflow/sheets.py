"""Anyone's tables as people and programs write them: CSV, TSV and Parquet, nothing guessed."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from serflow.errors import UserError, name_some

FORMATS = (".csv", ".tsv", ".parquet")
_WITH_COMMA = r"-?(\d+(,\d+)?([eE][+-]?\d+)?|[iI]nf)"


def read_sheet(path: Path, whose: str, setting: str) -> tuple[pd.DataFrame, str]:
    """Read a table; cells of text files stay text.

    Parameters
    ----------
    path : Path
        .csv (comma or semicolon), .tsv or .parquet.
    whose : str
        What the table belongs to, for messages.
    setting : str
        Where the study names it, for messages.

    Returns
    -------
    frame : DataFrame
        Empty cells are missing; an index with a name is a column.
    decimal : {'.', ','}
        The decimal sign that its numbers may have.

    Raises
    ------
    UserError
        No such file, another format, no rows, or rows that a reader would shift or guess.
    """
    if path.suffix.lower() not in FORMATS or not path.is_file():
        raise UserError(
            f"{whose}: {path} is not a file in one of the formats {', '.join(FORMATS)}; "
            f"name it in the study under `{setting}`"
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
            f"{whose}: cannot read {path}: {error}. Save it as UTF-8 with the same number of "
            "fields in every row."
        ) from None
    if frame.empty:
        raise UserError(f"{whose}: {path.name} has no rows")
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


def nearest(names: Sequence[str], known: Iterable[str]) -> str:
    """The names, each with the known one that it is most like."""
    near = {name: difflib.get_close_matches(name.lower(), list(known), n=1) for name in names}
    return name_some([f"{n} (near {m[0]})" if m else n or repr(n) for n, m in near.items()], 20)


def refuse_nested(frame: pd.DataFrame, table: str, whose: str) -> None:
    """Raise UserError for cells of a Parquet file that are neither text nor number."""
    for column in frame:
        for row, value in enumerate(frame[column], start=1):
            if isinstance(value, bytes) or not pd.api.types.is_scalar(value):
                raise UserError(
                    f"{whose}: '{column}' in {table} holds a {type(value).__name__} in "
                    f"row {row}: {str(value)[:80]}; expected text or a number in every cell"
                )


def as_text(value: Any) -> str | None:
    """Text of a cell; a Parquet column of integers with gaps holds 3.0 for 3."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip() or None


def numbers(
    column: pd.Series, decimal: str, table: str, whose: str, finite: bool = True
) -> pd.Series:
    """A column as float64, missing cells as NaN.

    Raises
    ------
    UserError
        A cell is no number, or, with `finite`, an infinite one.
    """
    pointed = column
    # All of a column or none: 1,234 beside 5.6 is no decimal comma.
    if decimal == "," and column.dropna().astype(str).str.fullmatch(_WITH_COMMA).all():
        pointed = column.map(lambda v: v.replace(",", ".") if isinstance(v, str) else v)
    found = pd.to_numeric(pointed, errors="coerce").astype(float)
    odd = column[(~np.isfinite(found) if finite else found.isna()) & column.notna()]
    if len(odd):
        raise UserError(
            f"{whose}: '{column.name}' in {table} holds {odd.iloc[0]!r} in row "
            f"{odd.index[0] + 1}; expected a number"
        )
    return found
