"""What a study hands in to a challenge: predictions of utterances whose labels are hidden."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serflow.config.base import Name, Strict

# The fold that trains on all labelled rows and whose test rows are those without a label.
FINAL = "final"
# Format, which is the corpus as well -> its labels, as they must stand in the file.
LABELS = {"emospeech2024": ("neutral", "disgust", "anger", "joy", "sadness", "fear")}


class SubmissionSettings(Strict):
    """One file in a challenge's own format, by systems trained on all labelled rows."""

    format: Literal["emospeech2024"] = Field(
        description="'emospeech2024': results.csv with a column for each of its two tasks."
    )
    tasks: Annotated[dict[Literal["task_1", "task_2"], Name], Field(min_length=1)] = Field(
        description="Column of the file -> the system that fills it; a task without one is empty."
    )
