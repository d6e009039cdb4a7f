"""Settings of the `prompted_lm` family: a causal language model that answers with a class's word."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from serflow.config.base import Count
from serflow.config.families.training import (
    Compile,
    LoraSettings,
    Quantisation,
    TrainingSettings,
    check_quantisation,
)
from serflow.config.resources import TrainedSystem

Word = Annotated[str, Field(min_length=1)]


class PromptedLmConfig(TrainedSystem):
    """A causal language model; posteriors from the logits of the classes' words."""

    inputs: ClassVar[tuple[str, ...]] = ("transcripts",)
    predicts: ClassVar[str] = "categories"

    family: Literal["prompted_lm"]
    model: str = Field(description="Hub id or local folder of the language model and tokenizer.")
    prompt: str = Field(description="What the model is asked; {text} stands for the transcript.")
    plain_template: str | None = Field(
        None,
        description="What stands around {prompt}, for models without a chat template; null: the "
        "tokenizer's chat template.",
    )
    words: dict[str, Word] = Field(
        {}, description="Class -> the word that the model answers with; default: the class's name."
    )
    adaptation: Literal["lora", "full", "frozen"] = Field(
        "lora", description="frozen: zero-shot; nothing is trained."
    )
    lora: LoraSettings | None = None
    quantisation: Quantisation = "none"
    compile: Compile = False
    loss: Literal["vocabulary", "classes"] = Field(
        "vocabulary",
        description="Cross-entropy of the right word's tokens over the whole vocabulary (next-token "
        "prediction), or among the classes' words alone.",
    )
    transcripts: str | None = Field(
        None, description="Which of the study's transcriptions it reads; null: the only one."
    )
    max_tokens: Count = Field(
        512, description="Of a whole prompt; longer transcripts lose their end."
    )
    training: TrainingSettings | None = Field(
        None, description="Needed unless adaptation is frozen."
    )
    prediction_batch: Count = Field(16, description="Utterances scored at once.")

    @model_validator(mode="after")
    def _hangs_together(self) -> PromptedLmConfig:
        if self.prompt.count("{text}") != 1:
            raise ValueError(
                f"prompt must hold {{text}} once, for the transcript; it does "
                f"{self.prompt.count('{text}')} times"
            )
        template = self.plain_template
        if template is not None and (
            template.count("{prompt}") != 1 or template.endswith("{prompt}")
        ):
            raise ValueError(
                f"plain_template must hold {{prompt}} once and go on after it, so that the answer "
                f"begins at the same place in every prompt; found {template!r}"
            )
        if (self.adaptation == "lora") != (self.lora is not None):
            raise ValueError("'lora' settings are needed exactly when adaptation is 'lora'")
        check_quantisation(self.quantisation, self.adaptation)
        if (self.adaptation == "frozen") != (self.training is None):
            raise ValueError(
                "'training' settings are needed unless adaptation is 'frozen', which is zero-shot "
                "and trains nothing"
            )
        return self

    def words_of(self, classes: list[str]) -> dict[str, str]:
        """The word of every class, in the order of the classes."""
        return {name: self.words.get(name, name) for name in classes}

    def models(self) -> tuple[str, ...]:
        """Names of the pretrained models that training loads."""
        return (self.model,)
