"""Settings of augmentation: what is done to training speech on the fly, and how often."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from serflow.config.base import Strict
from serflow.config.families.training import Fraction

Finite = Annotated[float, Field(allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0.5, le=2)]


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"expected the lower end first, not {list(ends)}")
    return ends


Range = Annotated[tuple[Finite, Finite], AfterValidator(_in_order)]
Factors = Annotated[tuple[Factor, Factor], AfterValidator(_in_order)]


class NoiseSettings(Strict):
    """A recorded noise, mixed in at a signal-to-noise ratio drawn uniformly."""

    corpus: str = Field("musan", description="musan, rirs_noises, or a name of the study's sounds.")
    categories: Annotated[list[str], Field(min_length=1)] = Field(
        ["noise"],
        description="Kinds of the corpus to draw from. MUSAN has noise, music and speech; "
        "RIRS_NOISES point_source_noise and isotropic_noise; a table its labels.",
    )
    kind: Literal["point", "background"] = Field(
        "point",
        description="point: once, at a random place; background: from end to end, repeated if short.",
    )
    probability: Fraction = Field(0.5, description="Share of the training examples with a noise.")
    snr_db: Range = Field(
        (0.0, 15.0), description="Level of speech over noise in dB, silences of both left out."
    )


class RirSettings(Strict):
    """A room impulse response, convolved with the speech."""

    corpus: str = Field("rirs_noises", description="rirs_noises, or a name of the study's sounds.")
    categories: Annotated[list[str], Field(min_length=1)] = Field(
        ["simulated_rir"],
        description="Kinds of the corpus to draw from. RIRS_NOISES has simulated_rir and real_rir.",
    )
    probability: Fraction = Field(0.5, description="Share of the training examples in a room.")


class SpeedSettings(Strict):
    """Played faster or slower: tempo and pitch change together."""

    factors: Annotated[list[Factor], Field(min_length=1)] = Field(
        [0.9, 1.1], description="One is drawn; above 1 is faster, shorter and higher."
    )
    probability: Fraction = Field(0.5, description="Share of the batches, or of the utterances.")
    per: Literal["batch", "utterance"] = Field(
        "batch", description="Whether all examples of a batch share the factor."
    )


class PitchSettings(Strict):
    """Another pitch at the same tempo, by a phase vocoder."""

    semitones: Range = Field((-2.0, 2.0), description="Drawn uniformly; above 0 is higher.")
    probability: Fraction = 0.5


class StretchSettings(Strict):
    """Another tempo at the same pitch, by a phase vocoder."""

    rates: Factors = Field((0.9, 1.1), description="Drawn uniformly; above 1 is faster.")
    probability: Fraction = 0.5


class WhiteNoiseSettings(Strict):
    """Gaussian noise at a signal-to-noise ratio drawn uniformly."""

    snr_db: Range = Field(
        (10.0, 30.0), description="Level of speech, silences left out, over noise."
    )
    probability: Fraction = 0.5


class AugmentationSettings(Strict):
    """Done to training rows alone, in this order; what is not named is not done."""

    speed: SpeedSettings | None = None
    time_stretch: StretchSettings | None = None
    pitch_shift: PitchSettings | None = None
    rirs: RirSettings | None = None
    noises: NoiseSettings | None = None
    white_noise: WhiteNoiseSettings | None = None

    @model_validator(mode="after")
    def _does_something(self) -> AugmentationSettings:
        if not self.model_dump(exclude_none=True):
            raise ValueError(
                f"augmentation names none of {', '.join(type(self).model_fields)}; leave it out"
            )
        return self

    def corpora(self) -> list[str]:
        """Names of the corpora that are mixed in, each once."""
        return list(dict.fromkeys(x.corpus for x in (self.noises, self.rirs) if x is not None))

    def slowest(self) -> float:
        """The smallest factor of tempo, at most 1: examples get longer by its inverse."""
        speed = min(self.speed.factors) if self.speed else 1.0
        rate = self.time_stretch.rates[0] if self.time_stretch else 1.0
        return min(speed, 1.0) * min(rate, 1.0)
