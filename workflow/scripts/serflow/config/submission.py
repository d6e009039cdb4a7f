"""What a study hands in to a challenge: predictions of utterances whose labels are hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from serflow.config.base import Name, Strict

# The fold that trains on all labelled rows and whose test rows are those without a label.
FINAL = "final"


@dataclass(frozen=True)
class Challenge:
    """What a challenge asks for.

    Attributes
    ----------
    corpus : str
        `source` of the corpus that holds its hidden rows.
    labels : sequence of str
        Its classes, as the corpus's reader calls them.
    files : mapping of str to mapping of str to str
        File, without `.csv` -> its tasks -> 'categories' or 'attributes'.
    """

    corpus: str
    labels: tuple[str, ...]
    files: Mapping[str, Mapping[str, Literal["categories", "attributes"]]]


CHALLENGES = {
    "emospeech2024": Challenge(
        "emospeech2024",
        ("neutral", "disgust", "anger", "joy", "sadness", "fear"),
        {"results": {"task_1": "categories", "task_2": "categories"}},
    ),
    "odyssey2024": Challenge(
        "msp_podcast",
        ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral"),
        {"categories": {"categories": "categories"}, "attributes": {"attributes": "attributes"}},
    ),
}


class SubmissionSettings(Strict):
    """One file in a challenge's own format, by systems trained on all labelled rows."""

    format: Literal["emospeech2024"] = Field(
        description="'emospeech2024': results.csv with a column for each of its two tasks."
    )
    tasks: Annotated[dict[Literal["task_1", "task_2"], Name], Field(min_length=1)] = Field(
        description="Column of the file -> the system that fills it; a task without one is empty."
    )
