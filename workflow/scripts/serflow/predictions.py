"""What a system says of utterances whose labels nobody has shown: posteriors without references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serflow.errors import UserError
from serflow.posteriors import check_probabilities
from serflow.tables import TEXT, Table

# No `label`, so that nothing can score it by mistake, and no `role`: there is none to choose on.
PREDICTIONS = Table(
    "predictions",
    {"utterance_id": TEXT, "system": TEXT},
    ["utterance_id"],
    ["system"],
    prefix="logp_",
)


@dataclass(frozen=True)
class Predictions:
    """Log-posteriors of one system, of utterances without labels.

    Attributes
    ----------
    rows : DataFrame
        utterance_id, system; one row an utterance.
    log_proba : ndarray of float, shape (n, n_classes)
        Natural logarithm; each row's probabilities sum to 1.
    classes : sequence of str
        The order of the columns.
    prior : ndarray of float, shape (n_classes,)
        That the log-posteriors express: the effective one of the training.
    seed : int
    system_digest : str
        Digest of the system's settings and code.
    """

    rows: pd.DataFrame
    log_proba: NDArray[np.float64]
    classes: Sequence[str]
    prior: NDArray[np.float64]
    seed: int
    system_digest: str

    @property
    def hypotheses(self) -> pd.Series:
        """The most probable class, by utterance id."""
        names = np.array(self.classes, dtype=object)[self.log_proba.argmax(axis=1)]
        return pd.Series(names, index=self.rows["utterance_id"])

    def write(self, path: str | Path) -> None:
        """Check and write the table."""
        check_probabilities(self.log_proba, self.rows["utterance_id"], str(path))
        frame = self.rows.reset_index(drop=True)
        for i, label in enumerate(self.classes):
            frame[f"logp_{label}"] = self.log_proba[:, i]
        facts = {
            "classes": list(self.classes),
            "prior": list(map(float, self.prior)),
            "seed": self.seed,
            "system_digest": self.system_digest,
        }
        PREDICTIONS.write(frame, path, facts)


def read_predictions(path: str | Path) -> Predictions:
    """Read and check a predictions table."""
    frame, metadata = PREDICTIONS.read_with_metadata(path)
    try:
        columns = [f"logp_{label}" for label in metadata["classes"]]
        predictions = Predictions(
            rows=frame[list(PREDICTIONS.columns)],
            log_proba=frame[columns].to_numpy(dtype=float),
            classes=tuple(metadata["classes"]),
            prior=np.asarray(metadata["prior"]),
            seed=metadata["seed"],
            system_digest=metadata["system_digest"],
        )
    except KeyError as error:
        raise UserError(f"{path} lacks {error} in its predictions metadata or columns") from None
    check_probabilities(predictions.log_proba, predictions.rows["utterance_id"], str(path))
    return predictions
