"""Settings of the `text_classifier` family: transformers sequence classification."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from serflow.config.families.training import (
    Compile,
    LoraSettings,
    Predicts,
    Quantisation,
    TrainingSettings,
    check_quantisation,
)
from serflow.config.resources import TrainedSystem


class TextClassifierConfig(TrainedSystem):
    """A transformers sequence classifier over the transcripts."""

    inputs: ClassVar[tuple[str, ...]] = ("transcripts",)

    family: Literal["text_classifier"]
    model: str = Field(description="Hub id or local folder of the language model and tokenizer.")
    adaptation: Literal["full", "lora", "frozen"] = "full"
    lora: LoraSettings | None = None
    quantisation: Quantisation = "none"
    compile: Compile = False
    predicts: Predicts = Field(
        "categories", description="The study's classes, its attributes, or both."
    )
    transcripts: str | None = Field(
        None, description="Which of the study's transcriptions it reads; null: the only one."
    )
    max_tokens: Annotated[int, Field(ge=1)] = 512
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _adaptations_settings(self) -> TextClassifierConfig:
        if (self.adaptation == "lora") != (self.lora is not None):
            raise ValueError("'lora' settings are needed exactly when adaptation is 'lora'")
        check_quantisation(self.quantisation, self.adaptation)
        return self

    def models(self) -> tuple[str, ...]:
        """Names of the pretrained models that training loads."""
        return (self.model,)
