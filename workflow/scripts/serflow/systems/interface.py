"""The one interface that all system families meet.

A family is a module `serflow.systems.<family>` with one function::

    def build(settings: dict, context: Context) -> System

and a settings type `serflow.config.families.<family>`. The job that trains a fold knows nothing
else about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serflow.audio import AudioStore
from serflow.context import Context
from serflow.layer_means import Rows


@dataclass(frozen=True)
class Examples:
    """Some utterances of a fold, with the inputs that the family asked for.

    Attributes
    ----------
    utterance_ids : list of str, length n
    labels : ndarray of int, shape (n,), or None
        Indices into the study's class order. None when the examples are to be predicted: a system
        cannot look at labels that it is not given.
    speakers : ndarray of str, shape (n,)
        For speaker-disjoint searches inside the training rows.
    audio : AudioStore or None
        Samples by utterance id.
    functionals : ndarray of float, shape (n, d), or None
    texts : list of str, length n, or None
        Transcripts; an empty one is valid.
    layer_means : Rows or None
        What a frozen encoder says on average over time.
    embeddings : ndarray of float, shape (n, d), or None
        Of another system's network.
    genders : ndarray of object, shape (n,), or None
        None or NaN where it is not known.
    attributes : ndarray of float, shape (n, n_attributes), or None
        What raters say, on the study's scale; NaN where they say nothing. None as labels are.
    """

    utterance_ids: list[str]
    labels: np.ndarray | None
    speakers: np.ndarray
    audio: AudioStore | None = None
    functionals: np.ndarray | None = None
    texts: list[str] | None = None
    layer_means: Rows | None = None
    embeddings: np.ndarray | None = None
    genders: np.ndarray | None = None
    attributes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.utterance_ids)

    @classmethod
    def unlabelled(cls, utterance_ids: list[str], **inputs: Any) -> Examples:
        """Utterances of which nothing is known but their inputs."""
        return cls(utterance_ids, None, np.full(len(utterance_ids), ""), **inputs)

    def without_labels(self) -> Examples:
        """The same examples, to be predicted."""
        return replace(self, labels=None, attributes=None)


@dataclass(frozen=True)
class Predicted:
    """What a system says of some utterances, in their order; None of what it does not predict.

    Attributes
    ----------
    log_proba : ndarray of float, shape (n, n_classes), or None
        Log-posteriors, natural logarithm; without the columns of classes that are never scored
        where the system does not know them.
    attributes : ndarray of float, shape (n, n_attributes), or None
        On the study's scale, within its ends.
    """

    log_proba: np.ndarray | None = None
    attributes: np.ndarray | None = None


class System(Protocol):
    """A trainable classifier or rater of utterances."""

    train_prior_: np.ndarray
    """ndarray of float, shape (n_classes,): the prior the system was EFFECTIVELY trained with,
    class weights and balanced sampling included."""

    facts_: dict[str, Any]
    """JSON facts for the report: trainable parameters, epochs, chosen hyper-parameters."""

    def fit(self, train: Examples, dev: Examples | None) -> System:
        """Train; `dev` has labels and may choose the epoch, never more."""

    def predict(self, examples: Examples) -> Predicted:
        """Posteriors, attributes or both: the same as without the other examples."""

    def save(self, folder: Path) -> None:
        """Write all that predicting once more needs; see `serflow.systems.saved`."""


def build(family: str, settings: dict[str, Any], context: Context) -> System:
    """Build an untrained system of `family` from its settings."""
    return import_module(f"serflow.systems.{family}").build(settings, context)
