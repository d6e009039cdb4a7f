"""The frozen boundary: log-posteriors by utterance, with what is needed to interpret them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from serflow.errors import UserError, name_some
from serflow.tables import POSTERIORS


@dataclass(frozen=True)
class Posteriors:
    """Log-posteriors of one system.

    Attributes
    ----------
    rows : DataFrame
        utterance_id, system, fold, role, label; one row per utterance and fold.
    log_proba : ndarray of float, shape (n, n_classes)
        Natural logarithm; each row's probabilities sum to 1.
    classes : tuple of str
        The order of the columns.
    priors : mapping of str to ndarray of float, shape (n_classes,)
        For each fold, the prior that the log-posteriors express: the effective training prior of
        a raw table, the target of a rebalanced one.
    seed : int
    system_digest : str
        Digest of the system's settings and code.
    """

    rows: pd.DataFrame
    log_proba: np.ndarray
    classes: tuple[str, ...]
    priors: Mapping[str, np.ndarray]
    seed: int
    system_digest: str

    @property
    def labels(self) -> np.ndarray:
        """Reference labels as indices into `classes`, shape (n,)."""
        index = {label: i for i, label in enumerate(self.classes)}
        return self.rows["label"].map(index).to_numpy()

    def check(self, where: str) -> None:
        """Raise UserError for impossible posteriors, naming the rows."""
        unknown = set(self.rows["label"]) - set(self.classes)
        if unknown:
            raise UserError(f"{where}: labels outside the class order: {name_some(unknown)}")
        check_probabilities(self.log_proba, self.rows["utterance_id"], where)
        missing = set(self.rows["fold"]) - set(self.priors)
        if missing:
            raise UserError(f"{where}: no training prior for folds {name_some(sorted(missing))}")

    def write(self, path: str | Path) -> None:
        """Check and write the table."""
        self.check(str(path))
        frame = self.rows.reset_index(drop=True)
        for i, label in enumerate(self.classes):
            frame[f"logp_{label}"] = self.log_proba[:, i]
        POSTERIORS.write(
            frame,
            path,
            {
                "classes": list(self.classes),
                "priors": {fold: list(map(float, p)) for fold, p in self.priors.items()},
                "seed": self.seed,
                "system_digest": self.system_digest,
            },
        )


def check_probabilities(log_proba: np.ndarray, utterance_ids: pd.Series, where: str) -> None:
    """Raise UserError if the probabilities of an utterance do not sum to 1, naming it."""
    with np.errstate(invalid="ignore"):
        sums = np.exp(log_proba).sum(axis=1)
    # NaN compares false, so it is caught here as well.
    bad = utterance_ids[~(np.abs(sums - 1) < 1e-5)]
    if len(bad):
        raise UserError(
            f"{where}: probabilities of {len(bad)} rows are not finite or do not sum to 1: "
            f"{name_some(bad)}. The system diverged: lower its learning rate and run again."
        )


def read_posteriors(path: str | Path) -> Posteriors:
    """Read and check a posteriors table."""
    frame, metadata = POSTERIORS.read_with_metadata(path)
    try:
        classes = tuple(metadata["classes"])
        columns = [f"logp_{label}" for label in classes]
        posteriors = Posteriors(
            rows=frame[list(POSTERIORS.columns)],
            log_proba=frame[columns].to_numpy(dtype=float),
            classes=classes,
            priors={fold: np.asarray(p) for fold, p in metadata["priors"].items()},
            seed=metadata["seed"],
            system_digest=metadata["system_digest"],
        )
    except KeyError as error:
        raise UserError(f"{path} lacks {error} in its posteriors metadata or columns") from None
    posteriors.check(str(path))
    return posteriors


def concatenate(parts: Sequence[Posteriors]) -> Posteriors:
    """Join the folds of one system into one table."""
    first = parts[0]
    for part in parts:
        if part.classes != first.classes or part.seed != first.seed:
            raise UserError("posteriors of different class orders or seeds cannot be joined")
    return Posteriors(
        rows=pd.concat([p.rows for p in parts], ignore_index=True),
        log_proba=np.concatenate([p.log_proba for p in parts]),
        classes=first.classes,
        priors={fold: prior for p in parts for fold, prior in p.priors.items()},
        seed=first.seed,
        system_digest=first.system_digest,
    )
