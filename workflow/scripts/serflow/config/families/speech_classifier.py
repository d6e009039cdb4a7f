"""Settings of the `speech_classifier` family: encoder, layers, pooling, head."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serflow.config.base import Strict
from serflow.config.families.augmentation import AugmentationSettings
from serflow.config.families.training import (
    AdapterSettings,
    Compile,
    Fraction,
    LoraSettings,
    Positive,
    Predicts,
    TrainingSettings,
)
from serflow.config.resources import TrainedSystem


class CropSettings(Strict):
    """Random chunks of the training utterances, in seconds."""

    min_s: Positive = 2.0
    max_s: Positive = 4.0

    @model_validator(mode="after")
    def _in_order(self) -> CropSettings:
        if self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s} is longer than max_s {self.max_s}")
        return self


class HeadSettings(Strict):
    """What is heard of the encoder, how it is pooled over time, and the layers up to the classes."""

    layers: Literal["last", "weighted_sum"] = Field(
        "last", description="The encoder's output, or a learnt mixture of all its layers."
    )
    pooling: Literal["attentive_statistics", "attentive", "mean"] = "attentive_statistics"
    bottleneck: Annotated[int, Field(ge=1)] = 128
    type: Literal["dense", "projector"] = Field(
        "dense",
        description="dense: a dense layer, ReLU, batch normalisation, the output layer. projector: a "
        "linear layer and the output layer, as in transformers' audio classifiers.",
    )
    hidden: Annotated[int, Field(ge=1)] = 768
    dropout: Fraction = 0.0


class PhaseSettings(Strict):
    """Training that goes on from the weights that the phase before it ended with."""

    crop: CropSettings | None = Field(
        None, description="Random chunks; null trains on whole utterances."
    )
    training: TrainingSettings


class SpeechClassifierConfig(TrainedSystem):
    """A transformers speech encoder with pooling and a classification head."""

    family: Literal["speech_classifier"]
    model: str = Field(description="Hub id or local folder of the encoder.")
    initial: Literal["pretrained", "random"] = Field(
        "pretrained", description="Load the encoder's weights, or train it from scratch."
    )
    adaptation: Literal["full", "lora", "adapters", "frozen"] = Field(
        "lora",
        description="Train the encoder's weights, low-rank updates, bottleneck adapters, or none.",
    )
    lora: LoraSettings | None = None
    adapters: AdapterSettings | None = None
    freeze_front_end: bool = Field(
        False,
        description="With adaptation 'full', do not train the encoder's convolutional front end.",
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="torch's fused attention where the encoder has it, or the plain one."
    )
    full_window: bool = Field(
        False,
        description="Whisper alone: encode its window of 30 s with silence after the utterance, "
        "as in its pre-training, instead of the utterance alone.",
    )
    compile: Compile = False
    head: HeadSettings = HeadSettings()
    predicts: Predicts = Field(
        "categories", description="The study's classes, its attributes, or both."
    )
    crop: CropSettings | None = Field(
        None, description="Training on random chunks; null trains on whole utterances."
    )
    augmentation: AugmentationSettings | None = Field(
        None, description="What is done to training speech on the fly; never to what is scored."
    )
    max_seconds: Positive = Field(
        30.0, description="Longer utterances are scored in chunks of this length, averaged."
    )
    training: TrainingSettings = TrainingSettings()
    further_phases: list[PhaseSettings] = Field(
        [], description="What follows the training above, each with an optimiser of its own."
    )

    @model_validator(mode="after")
    def _settings_go_with_their_adaptation(self) -> SpeechClassifierConfig:
        for name, block in (("lora", self.lora), ("adapters", self.adapters)):
            if (self.adaptation == name) != (block is not None):
                raise ValueError(
                    f"'{name}' settings are needed exactly when adaptation is '{name}'"
                )
        return self

    @property
    def phases(self) -> list[PhaseSettings]:
        """All of the training, in its order."""
        return [PhaseSettings(crop=self.crop, training=self.training), *self.further_phases]

    @property
    def inputs(self) -> tuple[str, ...]:
        """What training reads: audio, or what a frozen encoder was found to say of it, once for all.

        The latter where pooling is a mean and nothing changes from epoch to epoch.
        """
        plain = self.initial == "pretrained" and not self.full_window
        fixed = self.augmentation is None and all(phase.crop is None for phase in self.phases)
        once = self.adaptation == "frozen" and self.head.pooling == "mean" and plain and fixed
        return ("layer_means",) if once else ("audio",)

    def models(self) -> tuple[str, ...]:
        """Names of the pretrained models that training loads."""
        return (self.model,)
