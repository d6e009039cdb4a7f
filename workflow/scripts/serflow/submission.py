"""Files that challenges take, and the check that one is what they ask for."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from serflow.config.submission import LABELS
from serflow.errors import UserError, name_some

EMOSPEECH = "emospeech2024"
TASKS = ("task_1", "task_2")


def challenge_id(utterance_id: str) -> str:
    """An utterance as the challenge's files name it, without `.mp3`."""
    return utterance_id.removeprefix(f"{EMOSPEECH}/")


def expected_ids(utterances: pd.DataFrame) -> list[str]:
    """The ids of EmoSPeech 2024's test file, in its order.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES`; rows of other corpora and other parts may be among them.
    """
    ours = (utterances["corpus"] == EMOSPEECH) & (utterances["split"] == "test")
    return [challenge_id(name) for name in utterances[ours].sort_values("position")["utterance_id"]]


def results_csv(ids: Sequence[str], tasks: Mapping[str, Mapping[str, str]]) -> str:
    """The text of EmoSPeech 2024's `results.csv`.

    Parameters
    ----------
    ids : sequence of str
        In the order of the test file, without `.mp3`.
    tasks : mapping of str to mapping of str to str
        'task_1' or 'task_2' -> id -> label. The column of a task that is not there stays empty.

    Raises
    ------
    UserError
        A task lacks an id, has another one, or names what is no label of the challenge.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *TASKS])
    for task, labels in tasks.items():
        _check_ids(task, list(labels), ids)
    writer.writerows(
        [name, *(tasks[task][name] if task in tasks else "" for task in TASKS)] for name in ids
    )
    check_results(text.getvalue(), ids, list(tasks))
    return text.getvalue()


def check_results(text: str, ids: Sequence[str], tasks: Sequence[str]) -> None:
    """Refuse a `results.csv` that the organisers would refuse, or worse, score as something else.

    Parameters
    ----------
    text : str
        Content of the file.
    ids : sequence of str
        In the order of the test file, without `.mp3`.
    tasks : sequence of str
        Tasks that it answers; the other's column must be empty.

    Raises
    ------
    UserError
        Another header; ids that are missing, strange, there twice or in another order; a label that
        is none of the challenge's, or an answer to a task that was not meant.
    """
    lines = list(csv.reader(io.StringIO(text), strict=True))
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    if header != ["id", *TASKS]:
        found = ",".join(header) or "empty"
        raise UserError(f"results.csv: header is {found}; expected id,{','.join(TASKS)}")
    ragged = [f"line {n}" for n, row in enumerate(rows, 2) if len(row) != len(header)]
    if ragged:
        raise UserError(f"results.csv: expected {len(header)} fields in {name_some(ragged)}")
    found = [row[0] for row in rows]
    _check_ids("results.csv", found, ids)
    if found != list(ids):
        first = next(
            n for n, pair in enumerate(zip(found, ids, strict=True), 2) if len(set(pair)) > 1
        )
        raise UserError(f"results.csv: from line {first} on, rows are not in the test file's order")
    known = LABELS[EMOSPEECH]
    for column, task in enumerate(TASKS, 1):
        expected = known if task in tasks else ("",)
        odd = [f"{row[0]} ({row[column] or 'none'})" for row in rows if row[column] not in expected]
        if odd:
            raise UserError(
                f"results.csv: {task} of {len(odd)} rows is not one of "
                f"{', '.join(expected) or 'none'}: {name_some(odd)}. The study's classes must be "
                "the challenge's own labels."
            )


def _check_ids(where: str, found: Sequence[str], ids: Sequence[str]) -> None:
    counts = Counter(found)
    twice = [name for name, n in counts.items() if n > 1]
    missing = [name for name in ids if name not in counts]
    strange = sorted(set(found) - set(ids))
    faults = [
        f"{len(names)} {fault}: {name_some(names)}"
        for fault, names in (
            ("are there twice", twice),
            ("are missing", missing),
            ("are not in the test file", strange),
        )
        if names
    ]
    if faults:
        raise UserError(f"{where}: of the {len(ids)} ids of the test file, " + "; ".join(faults))
