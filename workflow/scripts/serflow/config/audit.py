"""Settings of the leakage audit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from serflow.config.base import Count, Strict


class Acceptance(Strict):
    """An overlap between train, dev and test that the study knows of and stands by."""

    overlap: Literal[
        "speaker", "sentence", "session", "text", "duplicate", "near_duplicate", "unknown_speaker"
    ]
    between: tuple[Literal["train", "dev", "test"], Literal["train", "dev", "test"]] | None = Field(
        None, description="The two roles; null: any two."
    )
    reason: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)] = Field(
        description="Why it may stand; printed in the report."
    )

    @model_validator(mode="after")
    def _two_roles(self) -> Acceptance:
        if self.between is not None and self.between[0] == self.between[1]:
            raise ValueError(f"between names one role twice: {list(self.between)}; expected two")
        return self


class AuditSettings(Strict):
    """The leakage audit: what may be shared between train, dev and test, and what is warned of."""

    accept: list[Acceptance] = []
    near_duplicates: bool = Field(
        True, description="Look for re-encoded copies by audio fingerprints."
    )
    min_per_class: Count = Field(10, description="Warn of classes with fewer utterances in a role.")
    prior_shift: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1,
        description="Warn when the class priors of train and test differ by more (total variation).",
    )
