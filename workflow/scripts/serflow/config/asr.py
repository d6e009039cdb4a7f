"""How utterances become text, as a study declares it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from serflow.config.base import Count, Strict
from serflow.config.resources import SingleClass


class Recogniser(Strict):
    """What every speech recogniser is told."""

    model: str = Field(description="Hub id, or a local file or folder.")
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")] | None = Field(
        None, description="ISO 639 code of the spoken language; null: each utterance's own."
    )
    batch_seconds: Annotated[float, Field(gt=0)] = Field(
        600.0, description="Padded seconds of audio in a batch, at first; less once memory is full."
    )
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="Share of a job's utterances that may end as errors."
    )
    shards: Count | None = Field(
        None, description="Jobs per corpus; null: one for 100 hours of audio (4 without a GPU)."
    )
    beam: Count = Field(1, description="Width of the beam; 1: greedy, as in the Odyssey paper.")
    resources: SingleClass = Field("gpu-small", description="What each of its jobs asks for.")


class CanaryConfig(Recogniser):
    """NVIDIA's Canary through NeMo; see serflow.asr.canary."""

    engine: Literal["canary"]
    pnc: bool = Field(False, description="Ask for punctuation and capitals.")


class WhisperConfig(Recogniser):
    """OpenAI's Whisper through transformers; see serflow.asr.whisper."""

    engine: Literal["whisper"]


class ReferenceConfig(Strict):
    """The corpus's own transcripts, to see what recognition errors cost."""

    engine: Literal["reference"]


AsrConfig = Annotated[CanaryConfig | WhisperConfig | ReferenceConfig, Field(discriminator="engine")]
