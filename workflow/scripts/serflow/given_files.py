"""Files of posteriors that other programs made, read without a guess at what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from serflow.errors import UserError, name_some
from serflow.sheets import FORMATS, as_text, nearest, numbers, read_sheet, refuse_nested


def read_given(
    file: str | Path,
    columns: Mapping[str, str],
    *,
    whose: str,
    id_column: str = "utterance_id",
    fold_column: str | None = None,
    ignore: Sequence[str] = (),
    order: Sequence[str] | None = None,
    ids: str | None = None,
    array: str | None = None,
) -> pd.DataFrame:
    """Read a file of anyone's, without a guess at what its columns are.

    Parameters
    ----------
    file : path
        .csv, .tsv, .parquet, .npy or .npz. Nothing is unpickled.
    columns : mapping of str to str
        Our name of each column of numbers -> the file's.
    whose : str
        The system, for messages.
    id_column, fold_column : str
        Columns of text; without `fold_column` a row is of any fold.
    ignore : sequence of str
        Further columns of the file. Any other column is an error.
    order : sequence of str
        The columns of a NumPy array.
    ids : str
        Beside .npy, the file of the rows' ids: one a line in a .txt, or a table. In .npz, the name
        of their array.
    array : str
        In .npz, the name of the array of values.

    Returns
    -------
    DataFrame
        `utterance_id`, `fold` (with `fold_column`) and `columns`, of float64 and never NaN;
        indexed by row number from 1.

    Raises
    ------
    UserError
        Names the file, and the column, row or id at fault.
    """
    file = Path(file).expanduser()
    labels = [id_column] if fold_column is None else [id_column, fold_column]
    if file.suffix.lower() in FORMATS:
        frame, decimal = read_sheet(file, whose, "file")
        refuse_nested(frame, file.name, whose)
    else:
        frame, decimal = _read_array(file, whose, labels, order or [], ids, array), "."
    _check_columns(frame, file, whose, [*labels, *columns.values()], ignore)
    frame.index = pd.RangeIndex(len(frame))
    found = pd.DataFrame({"utterance_id": frame[id_column].map(as_text)})
    if fold_column is not None:
        found["fold"] = frame[fold_column].map(as_text)
    for name, column in columns.items():
        found[name] = numbers(frame[column], decimal, file.name, whose, finite=False)
    found.index += 1
    for name, column in zip(found, [*labels, *columns.values()], strict=True):
        fault = f"have nothing, or NaN, in '{column}'"
        refuse(found, found[name].isna(), f"{whose}: {file}", fault, "Fill in, or take them out.")
    return found


def _read_array(
    file: Path,
    whose: str,
    labels: Sequence[str],
    order: Sequence[str],
    ids: str | None,
    array: str | None,
) -> pd.DataFrame:
    """A NumPy file as a table, the ids and folds of its rows beside the columns."""
    try:
        found = np.load(file, allow_pickle=False)
        if array is None:
            values, names = found, _read_ids(Path(str(ids)).expanduser(), whose, labels)
        else:
            absent = [name for name in (array, str(ids)) if name not in found]
            if absent:
                raise UserError(
                    f"{whose}: {file} has no array {absent[0]!r}; it has {', '.join(found)}"
                )
            values, texts = found[array], found[str(ids)]
            texts = texts.astype(str) if texts.dtype.kind == "S" else texts
            names = pd.DataFrame({labels[0]: texts})
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{whose}: cannot read {file}: {error}. Save numbers as floats and ids as text "
            "(np.asarray(ids, dtype=str)): pickled objects are not loaded"
        ) from None
    shape, kind = getattr(values, "shape", ()), getattr(values, "dtype", None)
    if len(shape) != 2 or shape[1] != len(order) or kind.kind not in "fiu":
        raise UserError(
            f"{whose}: {file} holds an array of shape {shape} and type {kind}; expected numbers, "
            f"(utterances, {len(order)}), the columns of `order`: {', '.join(order)}"
        )
    if len(names) != len(values):
        raise UserError(f"{whose}: {file} has {len(values)} rows, and {ids} {len(names)} ids")
    numbered = pd.DataFrame(values.astype(np.float64), columns=list(order))
    return pd.concat([names.reset_index(drop=True), numbered], axis=1)


def _read_ids(file: Path, whose: str, labels: Sequence[str]) -> pd.DataFrame:
    if file.suffix.lower() in FORMATS:
        frame, _ = read_sheet(file, whose, "ids")
        absent = [name for name in labels if name not in frame]
        if absent:
            raise UserError(
                f"{whose}: {file} lacks the columns {nearest(absent, frame)}; it has "
                f"{', '.join(map(str, frame))}"
            )
        return frame[list(labels)]
    if len(labels) > 1:
        raise UserError(
            f"{whose}: fold_column is {labels[1]!r}, but {file} is no table ({', '.join(FORMATS)})"
        )
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    return pd.DataFrame({labels[0]: [line.strip() or None for line in lines]})


def _check_columns(
    frame: pd.DataFrame, file: Path, whose: str, wanted: Sequence[str], ignore: Sequence[str]
) -> None:
    there = [str(column) for column in frame]
    absent = [name for name in [*wanted, *ignore] if name not in there]
    unknown = [name for name in there if name not in {*wanted, *ignore}]
    faults = []
    if absent:
        faults.append(f"lacks the columns {nearest(absent, there)}")
    if unknown:
        faults.append(f"has the unknown columns {name_some(unknown, 20)}")
    if faults:
        raise UserError(
            f"{whose}: {file} {' and '.join(faults)}; expected {', '.join(wanted)}. Map classes to "
            "the file's own columns (`columns: {class: column}`), name that of the ids "
            "(`id_column`), and let go of others (`ignore: [column]`)"
        )


def refuse(
    given: pd.DataFrame,
    bad: ArrayLike,
    where: str,
    fault: str,
    advice: str,
    more: Sequence[str] | None = None,
) -> None:
    """Raise UserError for the rows that are bad, with row number and id.

    Parameters
    ----------
    given : DataFrame
        As of `read_given`.
    bad : array of bool, shape (n,)
    where, fault, advice : str
        What the message says before the rows, of them, and after them.
    more : sequence of str, length n, optional
        What it says after each of them.
    """
    at = np.flatnonzero(bad)
    if not len(at):
        return
    ids = given["utterance_id"].to_numpy()
    named = [f"row {given.index[i]} ({ids[i]}){more[i] if more else ''}" for i in at]
    raise UserError(
        f"{where}: {len(at)} of {len(given)} rows {fault}: {name_some(named)}. {advice}"
    )
