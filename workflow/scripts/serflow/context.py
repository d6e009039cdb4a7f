"""What surrounds one training job: the class order, its seed, its folder, its threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Context:
    """What surrounds one training job.

    Attributes
    ----------
    classes : sequence of str
        The class order of every posterior.
    seed : int
    checkpoints : Path
        Folder for resumable state; it outlives a killed job and is removed after success.
    threads : int
        CPU threads that the job may use.
    """

    classes: Sequence[str]
    seed: int
    checkpoints: Path
    threads: int = 1
