"""What an ASR engine is, and how one is found by its name.

An engine is a module `serflow.asr.<engine>` with one function, `load(settings) -> Transcriber`. The
loop in `serflow.asr.transcribe` knows nothing else about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serflow.errors import UserError


@dataclass(frozen=True)
class Settings:
    """How utterances become text.

    Attributes
    ----------
    name : str
        Name of this transcription in the tables.
    engine : str
        Module of `serflow.asr`.
    model : str
        Local file or folder, or hub id.
    languages : sequence of str
        ISO 639 codes of the languages that will be asked for.
    pnc : bool
        Ask for punctuation and capitals.
    beam : int
        Width of the beam; 1 is greedy.
    batch_seconds : float
        Padded seconds of audio in a batch.
    max_error_rate : float
        Share of utterances in [0, 1] that may end as errors before the shard fails.
    threads : int
        CPU threads.
    """

    name: str
    engine: str
    model: str
    languages: Sequence[str] = ("en",)
    pnc: bool = False
    beam: int = 1
    batch_seconds: float = 600.0
    max_error_rate: float = 0.01
    threads: int = 1


class Transcriber(Protocol):
    """A loaded ASR model."""

    @property
    def facts(self) -> dict[str, str]:
        """What runs and where, for the record: device, precision, versions."""

    def transcribe(self, batch: Sequence[NDArray[np.float32]], language: str) -> list[str]:
        """One text for each array of samples (16 kHz), in order; raises if the batch fails."""


def load_engine(settings: Settings) -> Transcriber:
    """Load the engine that the settings name.

    Raises
    ------
    UserError
        The model cannot be loaded, is none of this engine's, or does not know a language.
    """
    return import_module(f"serflow.asr.{settings.engine}").load(settings)


def check_languages(settings: Settings, known: Sequence[str]) -> None:
    """Raise UserError if the model does not know all languages that will be asked for.

    Parameters
    ----------
    settings : Settings
    known : sequence of str
        The model's own.
    """
    strange = sorted(set(settings.languages) - set(known))
    if strange:
        raise UserError(
            f"asr.{settings.name}: {settings.model} does not know {', '.join(map(repr, strange))}; "
            f"it knows {', '.join(sorted(known))}. Choose another model, or correct `language` in "
            "the study or in the corpus."
        )
