"""The Odyssey 2024 challenge's two files: a category, or three attributes, for each file of Test3.

Columns, letters and values are those of `labels_consensus.csv`: `FileName` with `.wav`, `EmoClass` as
one letter, `EmoAct`, `EmoVal` and `EmoDom` (in this order: arousal, valence, dominance) from 1 to 7.
The order of the rows is free in the organisers' own script; here it is that of the names.

References
----------
The organisers' baseline, github.com/msplabresearch/MSP-Podcast_Challenge: `eval_dim_ser_test3.py` writes
the attributes "in the correct .csv format" (README) and clips them to 1 to 7;
`process_labels_for_categorical.py` has the letters. `FileName,EmoClass` is the header that participants'
published code writes for the categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from serflow.config.submission import CHALLENGES
from serflow.submission.rows import Sheet

CORPUS = "msp_podcast"
PARTITION = "Test3"
LETTERS = dict(zip(CHALLENGES["odyssey2024"].labels, "ASHUFDCN", strict=True))
ATTRIBUTES = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}
LOWEST, HIGHEST = 1, 7


def challenge_id(utterance_id: str) -> str:
    """An utterance's `FileName`."""
    return utterance_id.removeprefix(f"{CORPUS}/") + ".wav"


def expected_ids(utterances: pd.DataFrame) -> list[str]:
    """The file names of Test3, sorted.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES`; rows of other corpora and other parts may be among them.
    """
    ours = (utterances["corpus"] == CORPUS) & (utterances["partition"] == PARTITION)
    return sorted(challenge_id(name) for name in utterances.loc[ours, "utterance_id"])


def categories_csv(ids: Sequence[str], labels: Mapping[str, str]) -> str:
    """The text of the file of task 1.

    Parameters
    ----------
    ids : sequence of str
        `expected_ids`.
    labels : mapping of str to str
        File name -> class, as the corpus's reader calls it ('angry').

    Raises
    ------
    UserError
        A file has no label, another one has, or a label is none of the eight.

    Examples
    --------
    >>> print(categories_csv(["x.wav"], {"x.wav": "surprise"}), end="")
    FileName,EmoClass
    x.wav,U
    """
    sheet = _categories(ids)
    sheet.check_ids("categories", list(labels))
    text = sheet.text([name, LETTERS.get(labels[name], labels[name])] for name in ids)
    check_categories(text, ids)
    return text


def check_categories(text: str, ids: Sequence[str]) -> None:
    """Raise UserError unless a file has one letter of the eight for each id, in the order of `ids`."""
    sheet = _categories(ids)
    sheet.check_labels(sheet.rows(text), "EmoClass", tuple(LETTERS.values()))


def attributes_csv(ids: Sequence[str], values: Mapping[str, Mapping[str, float]]) -> str:
    """The text of the file of task 2.

    Parameters
    ----------
    ids : sequence of str
        `expected_ids`.
    values : mapping of str to mapping of str to float
        File name -> 'arousal', 'valence' and 'dominance' -> value from 1 to 7.

    Raises
    ------
    UserError
        A file has no values, another one has, or a value is outside the scale.

    Examples
    --------
    >>> rated = {"x.wav": {"arousal": 4.5, "valence": 2, "dominance": 7}}
    >>> print(attributes_csv(["x.wav"], rated), end="")
    FileName,EmoAct,EmoVal,EmoDom
    x.wav,4.500000,2.000000,7.000000
    """
    sheet = _attributes(ids)
    sheet.check_ids("attributes", list(values))
    text = sheet.text(
        [name, *(f"{values[name][attribute]:.6f}" for attribute in ATTRIBUTES.values())]
        for name in ids
    )
    check_attributes(text, ids)
    return text


def check_attributes(text: str, ids: Sequence[str]) -> None:
    """Raise UserError unless a file has three values from 1 to 7 for each id, in the order of `ids`."""
    sheet = _attributes(ids)
    rows = sheet.rows(text)
    for column in ATTRIBUTES:
        sheet.check_numbers(rows, column, LOWEST, HIGHEST)


def _categories(ids: Sequence[str]) -> Sheet:
    return Sheet("categories.csv", ("FileName", "EmoClass"), ids, PARTITION)


def _attributes(ids: Sequence[str]) -> Sheet:
    return Sheet("attributes.csv", ("FileName", *ATTRIBUTES), ids, PARTITION)
