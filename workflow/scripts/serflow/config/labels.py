"""From a corpus's own labels and ratings to what a study predicts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serflow.config.base import Strict


class LabelSettings(Strict):
    """From a corpus's own labels to the study's classes."""

    map: dict[str, str] = Field({}, description="Corpus label -> class; others keep their name.")
    drop: list[str] = Field([], description="Corpus labels whose utterances are left out.")
    train_only: list[str] = Field(
        [],
        description="Further classes that systems learn and no table shows: utterances of them are "
        "in no dev or test set, and posteriors are renormalised without them.",
    )
    unlabelled: Literal["fail", "drop"] = Field(
        "fail", description="What utterances without a label (hidden test sets) do to the run."
    )


class AttributeSettings(Strict):
    """What systems may predict beside, or instead of, the classes: ratings on a scale."""

    names: Annotated[list[Literal["arousal", "valence", "dominance"]], Field(min_length=1)] = Field(
        ["arousal", "valence", "dominance"],
        description="Columns of the utterance table, in the order of the systems' outputs.",
    )
    scale: tuple[float, float] = Field(
        description="Lowest and highest rating; predictions are clipped to them."
    )

    @model_validator(mode="after")
    def _in_order(self) -> AttributeSettings:
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names holds one twice: {self.names}")
        # Not `>=`: NaN compares false.
        if not self.scale[0] < self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}; expected the lower end first")
        return self
