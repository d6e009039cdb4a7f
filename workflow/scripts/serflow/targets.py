"""What networks learn of an utterance: its class, its attributes, or both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Targets:
    """What a network is to say of some utterances: the classes' logits, then the attributes.

    Attributes
    ----------
    labels : ndarray of int, shape (n,)
        Class indices; balanced sampling goes by them even where no class is learnt.
    n_classes : int
        Classes that are learnt; 0: none.
    attributes : ndarray of float, shape (n, n_attributes)
        In [-1, 1], the ends of their scale; NaN where an utterance has none.
    elsewhere : bool
        Whether a logit follows those of the classes for whatever is none of them, as for the rest
        of a language model's vocabulary: no utterance is of it, and learning drains it.
    """

    labels: NDArray[np.integer]
    n_classes: int
    attributes: NDArray[np.float64]
    elsewhere: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_logits(self) -> int:
        """Columns before the attributes."""
        return self.n_classes + self.elsewhere

    @property
    def n_attributes(self) -> int:
        """Attributes that are learnt; 0: none."""
        return self.attributes.shape[1]

    @property
    def unrated(self) -> int:
        """Utterances without a value of some attribute."""
        return int(np.isnan(self.attributes).any(axis=1).sum())

    def digest(self) -> str:
        """Identifies what is learnt."""
        state = hashlib.sha256(np.asarray(self.labels, dtype="<i8").tobytes())
        state.update(f"{self.n_classes} {self.elsewhere} {self.attributes.shape}".encode())
        state.update(np.ascontiguousarray(self.attributes, dtype="<f8").tobytes())
        return state.hexdigest()
