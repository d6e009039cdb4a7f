"""What a family gives to training: inputs of utterances, and rows that may choose the epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor

from serflow.batching import Draw
from serflow.nets.losses import concordance_loss
from serflow.targets import Targets


class Inputs(Protocol):
    """What a family gives the trainer: utterances as network inputs, without labels."""

    varies: bool
    """Whether an utterance's input differs from epoch to epoch (crops), so nothing is kept."""

    def __len__(self) -> int: ...

    def lengths(self, draws: list[Draw]) -> NDArray[np.float64]:
        """Length of each drawn example in any unit, shape (n,)."""

    def item(self, draw: Draw) -> Tensor:
        """The network input of one example, shape (time, ...)."""

    def collate(self, items: list[Tensor], rounded: bool = False) -> dict[str, Tensor]:
        """Pad items to the arguments of the network's forward; `rounded`: to one of few lengths."""

    def digest(self) -> str:
        """Identifies the utterances and their content."""


@dataclass(frozen=True)
class Dev:
    """Rows that may choose the epoch.

    Attributes
    ----------
    outputs : callable
        Gives the network's outputs for the rows, shape (n, n_classes + n_attributes), as it is now.
    targets : Targets
    """

    outputs: Callable[[], NDArray[np.float64]]
    targets: Targets

    @property
    def metric(self) -> str:
        """What chooses: macro-F1 where classes are learnt, else the mean CCC."""
        return "macro-F1" if self.targets.n_classes else "mean CCC"

    def score(self) -> float:
        """How good the network is now, by `metric`; higher is better."""
        found = self.outputs()
        if not self.targets.n_classes:
            reference = torch.from_numpy(self.targets.attributes)
            return -float(concordance_loss(torch.from_numpy(found), reference))
        labels = self.targets.labels
        predicted = found[:, : self.targets.n_classes].argmax(axis=1)
        # Not serflow.metrics: a new metric there must not retrain every system.
        return float(
            f1_score(
                labels, predicted, labels=np.unique(labels), average="macro", zero_division=0.0
            )
        )
