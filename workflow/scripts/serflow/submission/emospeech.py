"""EmoSPeech 2024's `results.csv`: a label for each of two tasks.

Header `id,task_1,task_2`, ids without `.mp3` in the order of the organisers' `test.csv`. What their
scorer makes of the column of a task that nobody answers is not published; it stays empty here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from serflow.config.submission import CHALLENGES
from serflow.errors import UserError
from serflow.submission.rows import Sheet

CORPUS = "emospeech2024"
TASKS = ("task_1", "task_2")
LABELS = CHALLENGES["emospeech2024"].labels


def challenge_id(utterance_id: str) -> str:
    """An utterance as the challenge's files name it, without `.mp3`."""
    return utterance_id.removeprefix(f"{CORPUS}/")


def expected_ids(utterances: pd.DataFrame) -> list[str]:
    """The ids of the test file, in its order.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES`; rows of other corpora and other parts may be among them.
    """
    ours = (utterances["corpus"] == CORPUS) & (utterances["split"] == "test")
    return [challenge_id(name) for name in utterances[ours].sort_values("position")["utterance_id"]]


def results_csv(ids: Sequence[str], tasks: Mapping[str, Mapping[str, str]]) -> str:
    """The text of `results.csv`.

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
    sheet = _sheet(ids)
    for task, labels in tasks.items():
        sheet.check_ids(task, list(labels))
    text = sheet.text(
        [name, *(tasks[task][name] if task in tasks else "" for task in TASKS)] for name in ids
    )
    check_results(text, ids, list(tasks))
    return text


def check_results(text: str, ids: Sequence[str], tasks: Sequence[str] | None = None) -> None:
    """Refuse a `results.csv` that the organisers would refuse, or worse, score as something else.

    Parameters
    ----------
    text : str
        Content of the file.
    ids : sequence of str
        In the order of the test file, without `.mp3`.
    tasks : sequence of str, optional
        Tasks that it answers; the other's column must be empty. If not given, those whose columns
        are not empty.

    Raises
    ------
    UserError
        Another header; ids that are missing, strange, there twice or in another order; a label that
        is none of the challenge's, or an answer to a task that was not meant; no answer at all.
    """
    sheet = _sheet(ids)
    rows = sheet.rows(text)
    if tasks is None:
        tasks = [task for i, task in enumerate(TASKS, 1) if any(row[i] for row in rows)]
    if not tasks:
        raise UserError(f"{sheet.file}: the columns {' and '.join(TASKS)} are both empty")
    for task in TASKS:
        expected = LABELS if task in tasks else ("",)
        hint = " The study's classes must be the challenge's own labels."
        sheet.check_labels(rows, task, expected, hint)


def _sheet(ids: Sequence[str]) -> Sheet:
    return Sheet("results.csv", ("id", *TASKS), ids, "the test file")
