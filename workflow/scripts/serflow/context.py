"""What surrounds one training job: the class order, its seed, its folder, threads and sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from serflow.attributes import Scale
from serflow.sounds import Sounds


@dataclass(frozen=True)
class Context:
    """What surrounds one training job.

    Attributes
    ----------
    classes : sequence of str
        All that are learnt, in the order of the outputs.
    seed : int
    checkpoints : Path
        Folder for resumable state; it outlives a killed job and is removed after success.
    threads : int
        CPU threads that the job may use.
    train_only : int
        So many of the last classes are learnt and never scored.
    sounds : mapping of str to Sounds
        What may be mixed into training speech: corpus -> its sounds.
    scale : Scale, optional
        The study's attributes, in the order of the outputs; None for a study without.
    """

    classes: Sequence[str]
    seed: int
    checkpoints: Path
    threads: int = 1
    train_only: int = 0
    sounds: Mapping[str, Sounds] = field(default_factory=dict)
    scale: Scale | None = None

    def phase(self, number: int) -> Context:
        """The surroundings of one phase of training, which has checkpoints of its own."""
        return replace(self, checkpoints=self.checkpoints / f"phase-{number + 1}")

    @property
    def n_scored(self) -> int:
        """Number of the first classes, those of the posteriors tables."""
        return len(self.classes) - self.train_only
