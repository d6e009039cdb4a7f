"""The files that challenges take, by name: whose rows they have, and what checks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from serflow.errors import UserError
from serflow.submission import emospeech, odyssey


@dataclass(frozen=True)
class Format:
    """One file of a challenge.

    Attributes
    ----------
    title : str
    expected_ids : callable
        `tables.UTTERANCES` to the ids of the file, in their order.
    check : callable
        Text of a file and these ids; raises UserError for what the challenge would refuse.
    """

    title: str
    expected_ids: Callable[[pd.DataFrame], list[str]]
    check: Callable[[str, Sequence[str]], None]


FORMATS = {
    "emospeech2024": Format(
        "EmoSPeech 2024: results.csv", emospeech.expected_ids, emospeech.check_results
    ),
    "odyssey2024_categories": Format(
        "Odyssey 2024, task 1: FileName,EmoClass", odyssey.expected_ids, odyssey.check_categories
    ),
    "odyssey2024_attributes": Format(
        "Odyssey 2024, task 2: FileName,EmoAct,EmoVal,EmoDom",
        odyssey.expected_ids,
        odyssey.check_attributes,
    ),
}


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
