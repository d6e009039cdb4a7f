"""The frozen boundary of attributes: predicted values by utterance, beside the raters' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from serflow.errors import UserError, name_some
from serflow.tables import ATTRIBUTES

NAMES = ("arousal", "valence", "dominance")
KEYS = ["utterance_id", "system", "fold", "role"]


@dataclass(frozen=True)
class Scale:
    """Which attributes a study predicts, and the range that its corpora rate them on.

    Attributes
    ----------
    names : sequence of str
        Of `NAMES`, in the order of the systems' outputs.
    low, high : float
        Ends of the scale.
    """

    names: Sequence[str]
    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # read from JSON, it is a list

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """From the scale to [-1, 1], where networks start in the middle; what is missing stays so."""
        return (np.asarray(values, dtype=float) - self._middle) / self._half

    def from_unit(self, values: np.ndarray) -> np.ndarray:
        """From [-1, 1] to the scale, clipped to its ends: no rater can say more."""
        values = self._middle + np.asarray(values, dtype=float) * self._half
        return np.clip(values, self.low, self.high)

    @property
    def _middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def _half(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Attributes:
    """Predicted attributes of one system.

    Attributes
    ----------
    rows : DataFrame
        utterance_id, system, fold, role; one row per utterance and fold.
    predicted : ndarray of float, shape (n, n_attributes)
        On the scale, within its ends.
    reference : ndarray of float, shape (n, n_attributes)
        NaN where the corpus gives none.
    scale : Scale
    seed : int
    system_digest : str
        Digest of the system's settings and code.
    """

    rows: pd.DataFrame
    predicted: np.ndarray
    reference: np.ndarray
    scale: Scale
    seed: int
    system_digest: str

    def check(self, where: str) -> None:
        """Raise UserError for impossible values, naming the rows."""
        for values, missing, what in (
            (self.predicted, False, "predictions"),
            (self.reference, True, "references"),
        ):
            inside = (values >= self.scale.low) & (values <= self.scale.high)
            bad = ~(inside | (np.isnan(values) & missing)).all(axis=1)
            if bad.any():
                raise UserError(
                    f"{where}: {what} of {bad.sum()} rows are not finite or outside the scale "
                    f"{self.scale.low:g} to {self.scale.high:g}: "
                    f"{name_some(self.rows['utterance_id'][bad])}"
                )

    def write(self, path: str | Path) -> None:
        """Check and write the table."""
        self.check(str(path))
        frame = self.rows[KEYS].reset_index(drop=True)
        for prefix, values in (("", self.predicted), ("reference_", self.reference)):
            for name in NAMES:
                known = name in self.scale.names
                column = values[:, self.scale.names.index(name)] if known else np.nan
                frame[f"{prefix}{name}"] = column
        ATTRIBUTES.write(
            frame,
            path,
            {
                "scale": asdict(self.scale),
                "seed": self.seed,
                "system_digest": self.system_digest,
            },
        )


def read_attributes(path: str | Path) -> Attributes:
    """Read and check a table of predicted attributes."""
    frame, metadata = ATTRIBUTES.read_with_metadata(path)
    try:
        scale = Scale(**metadata["scale"])
        seed, system_digest = metadata["seed"], metadata["system_digest"]
    except KeyError as error:
        raise UserError(f"{path} lacks {error} in its metadata") from None
    names = list(scale.names)
    attributes = Attributes(
        rows=frame[KEYS],
        predicted=frame[names].to_numpy(dtype=float),
        reference=frame[[f"reference_{name}" for name in names]].to_numpy(dtype=float),
        scale=scale,
        seed=seed,
        system_digest=system_digest,
    )
    attributes.check(str(path))
    return attributes


def concatenate(parts: Sequence[Attributes]) -> Attributes:
    """Join the folds of one system into one table."""
    first = parts[0]
    for part in parts:
        if part.scale != first.scale or part.seed != first.seed:
            raise UserError("attributes of different scales or seeds cannot be joined")
    return Attributes(
        rows=pd.concat([part.rows for part in parts], ignore_index=True),
        predicted=np.concatenate([part.predicted for part in parts]),
        reference=np.concatenate([part.reference for part in parts]),
        scale=first.scale,
        seed=first.seed,
        system_digest=first.system_digest,
    )
