"""What the network families learn of the examples, and what their outputs say."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from serflow.context import Context
from serflow.systems.interface import Examples, Predicted
from serflow.targets import Targets


class Columns:
    """The outputs of a network: a logit for every class, then the attributes; either or both.

    Parameters
    ----------
    predicts : {"categories", "attributes", "both"}
    context : Context

    Attributes
    ----------
    n_classes, n_attributes : int
        0 of what is not predicted.
    """

    def __init__(
        self, predicts: Literal["categories", "attributes", "both"], context: Context
    ) -> None:
        self._scale = context.scale
        self.n_classes = 0 if predicts == "attributes" else len(context.classes)
        self.n_attributes = 0 if predicts == "categories" else len(context.scale.names)

    def __len__(self) -> int:
        return self.n_classes + self.n_attributes

    def targets(self, examples: Examples) -> Targets:
        """What a network learns of labelled examples."""
        if self.n_attributes:
            attributes = self._scale.to_unit(examples.attributes)
        else:
            attributes = np.empty((len(examples), 0))
        return Targets(examples.labels, self.n_classes, attributes)

    def normalised(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """The outputs, logits made logarithms of probabilities."""
        if not self.n_classes:
            return outputs
        logits, attributes = np.split(outputs, [self.n_classes], axis=1)
        return np.concatenate([log_softmax(logits, axis=1), attributes], axis=1)

    def pooled(
        self, normalised: NDArray[np.float64], owners: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Means over the chunks of each utterance: of probabilities, and of attributes.

        Parameters
        ----------
        normalised : ndarray of float64, shape (n_chunks, n_outputs)
        owners : ndarray of int, shape (n_chunks,)
            Index of each one's utterance; every utterance has one.
        """
        counts = np.bincount(owners)[:, None]
        logits, attributes = np.split(normalised, [self.n_classes], axis=1)
        posteriors = np.full((len(counts), self.n_classes), -np.inf)
        np.logaddexp.at(posteriors, owners, logits)
        sums = np.zeros((len(counts), self.n_attributes))
        np.add.at(sums, owners, attributes)
        return np.concatenate([posteriors - np.log(counts), sums / counts], axis=1)

    def predicted(self, found: NDArray[np.float64]) -> Predicted:
        """What `normalised` or `pooled` outputs say, attributes on their scale."""
        log_proba, attributes = np.split(found, [self.n_classes], axis=1)
        return Predicted(
            log_proba if self.n_classes else None,
            self._scale.from_unit(attributes) if self.n_attributes else None,
        )
