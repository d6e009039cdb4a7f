"""Settings of the `text_functionals` family: weighted words and characters of transcripts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from serflow.config.base import Count
from serflow.config.grids import System
from serflow.config.resources import CpuClass


class TextFunctionalsConfig(System):
    """TF-IDF of words and characters, counts of style, and logistic regression."""

    inputs: ClassVar[tuple[str, ...]] = ("transcripts",)
    predicts: ClassVar[str] = "categories"

    family: Literal["text_functionals"]
    transcripts: str | None = Field(
        None, description="Which of the study's transcriptions it reads; null: the only one."
    )
    word_ngrams: tuple[Count, Count] = Field(
        (1, 2), description="Shortest and longest run of words; a punctuation mark is a word."
    )
    character_ngrams: tuple[Count, Count] = Field(
        (2, 6), description="Shortest and longest run of characters, across words."
    )
    min_character_texts: Count = Field(
        2, description="Runs of characters in fewer training texts are left out."
    )
    style: Annotated[float, Field(ge=0)] = Field(
        0.2,
        description="Standard deviation of each count of style (length, questions, ...), beside "
        "TF-IDF vectors of length 1; 0: none.",
    )
    C: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Inverse strength of the L2 penalty."
    )
    class_weight: Literal["balanced", "none"] = Field(
        "balanced", description="'balanced': every class weighs the same, however rare."
    )
    resources: CpuClass = "cpu-small"

    @model_validator(mode="after")
    def _shortest_first(self) -> TextFunctionalsConfig:
        for name in ("word_ngrams", "character_ngrams"):
            shortest, longest = getattr(self, name)
            if shortest > longest:
                raise ValueError(
                    f"{name} is {[shortest, longest]}; expected the shortest run first"
                )
        return self

    def models(self) -> tuple[str, ...]:
        """Names of the pretrained models that training loads."""
        return ()
