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
        Hub id, file or folder.
    language : str
        Two-letter code of the spoken language.
    pnc : bool
        Ask for punctuation and capitals.
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
    language: str = "en"
    pnc: bool = False
    batch_seconds: float = 600.0
    max_error_rate: float = 0.01
    threads: int = 1


class Transcriber(Protocol):
    """A loaded ASR model."""

    def transcribe(self, batch: Sequence[NDArray[np.float32]]) -> list[str]:
        """One text for each array of samples (16 kHz), in order; raises if the batch fails."""


def load_engine(settings: Settings) -> Transcriber:
    """Load the engine that the settings name.

    Raises
    ------
    UserError
        The model cannot be loaded, is none of this engine's, or does not know the language.
    """
    return import_module(f"serflow.asr.{settings.engine}").load(settings)
