"""The files that challenges take, by name: whose rows they have, and what checks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.errors import UserError
from serflow.submission import emospeech, odyssey


@dataclass(frozen=True)
class Format:
    """One file of a challenge.

    Attributes
    ----------
    title : str
    challenge, file : str
        As in `config.submission.CHALLENGES`.
    challenge_id : callable
        An utterance id to the id that the file has.
    expected_ids : callable
        `tables.UTTERANCES` to the ids of the file, in their order.
    write : callable
        These ids, and task -> id -> answer, to the text of the file; raises UserError for what
        `check` does.
    check : callable
        Text of a file and these ids; raises UserError for what the challenge would refuse.
    """

    title: str
    challenge: str
    file: str
    challenge_id: Callable[[str], str]
    expected_ids: Callable[[pd.DataFrame], list[str]]
    write: Callable[[Sequence[str], Mapping[str, Mapping[str, Any]]], str]
    check: Callable[[str, Sequence[str]], None]


FORMATS = {
    "emospeech2024": Format(
        "EmoSPeech 2024: results.csv",
        "emospeech2024",
        "results",
        emospeech.challenge_id,
        emospeech.expected_ids,
        emospeech.results_csv,
        emospeech.check_results,
    ),
    "odyssey2024_categories": Format(
        "Odyssey 2024, task 1: FileName,EmoClass",
        "odyssey2024",
        "categories",
        odyssey.challenge_id,
        odyssey.expected_ids,
        lambda ids, tasks: odyssey.categories_csv(ids, tasks["categories"]),
        odyssey.check_categories,
    ),
    "odyssey2024_attributes": Format(
        "Odyssey 2024, task 2: FileName,EmoAct,EmoVal,EmoDom",
        "odyssey2024",
        "attributes",
        odyssey.challenge_id,
        odyssey.expected_ids,
        lambda ids, tasks: odyssey.attributes_csv(ids, tasks["attributes"]),
        odyssey.check_attributes,
    ),
}


def file_text(
    challenge: str, file: str, utterances: pd.DataFrame, tasks: Mapping[str, Mapping[str, Any]]
) -> str:
    """The text of one file of a challenge, checked.

    Parameters
    ----------
    challenge, file : str
        As in `config.submission.CHALLENGES`.
    utterances : DataFrame
        `tables.UTTERANCES` with the challenge's hidden rows.
    tasks : mapping of str to mapping
        Task -> utterance id -> class, or attribute -> value.

    Raises
    ------
    UserError
        A task lacks an utterance, has another one, or an answer that the challenge does not take.
    """
    (found,) = [x for x in FORMATS.values() if (x.challenge, x.file) == (challenge, file)]
    named = {
        task: {found.challenge_id(name): answer for name, answer in answers.items()}
        for task, answers in tasks.items()
    }
    return found.write(found.expected_ids(utterances), named)


def check_file(name: str, path: Path, utterances: pd.DataFrame) -> int:
    """Read a file again as the challenge will, and count its rows.

    Parameters
    ----------
    name : str
        Of `FORMATS`.
    path : Path
    utterances : DataFrame
        `tables.UTTERANCES` of the corpus, or of its hidden rows.

    Raises
    ------
    UserError
        The table has no hidden rows of the challenge, the file cannot be read, or it is not what
        the challenge asks for.
    """
    found = FORMATS[name]
    ids = found.expected_ids(utterances)
    if not ids:
        raise UserError(
            f"the utterances hold no row of the test part of {found.title.partition(':')[0]}: give "
            "the utterances.parquet of the corpus, below results/corpora"
        )
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    found.check(text, ids)
    return len(ids)
