"""The log-posteriors of several systems side by side, and what every fusion of them has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from serflow.log_posteriors import LOG_FLOOR, SUM_TOLERANCE
from serflow.metrics import class_indices

BLOCK = 2048  # utterances

Stack = Sequence[ArrayLike] | NDArray


class Fusion(Protocol):
    """What the rest of the house needs of a fusion."""

    def fit(self, stack: Stack, y: ArrayLike, groups: ArrayLike | None = None) -> Fusion:
        """Learn from log-posteriors (n_systems, n_utterances, n_classes) and class indices.

        `groups`, of which none may lie on both sides of an inner split, are for fusions that choose
        a parameter by cross-validation.
        """

    def predict_log_proba(self, stack: Stack) -> NDArray[np.float64]:
        """Fuse log-posteriors into one, shape (n_utterances, n_classes)."""

    def learnt(self) -> dict[str, Any]:
        """What was learnt, as JSON."""

    @classmethod
    def from_learnt(cls, fits: Sequence[Mapping[str, Any]], n_systems: int) -> Fusion:
        """A fusion that predicts, from what one or several fits learnt, as `learnt` gave it.

        Raises ValueError for no fit at all, and for fits of another number of systems.
        """

    def prior(self, priors: NDArray, fit_shares: NDArray) -> NDArray[np.float64]:
        """Class prior of fused posteriors, from the systems' priors and the fit rows' shares."""


class Checked(NamedTuple):
    """A stack that has been looked through.

    Parameters
    ----------
    logs : ndarray of float64, shape (n_systems, n_utterances, n_classes)
    probabilities : ndarray of float64, shape (n_systems, n_classes, n_utterances)
        Classes first: what is done class by class then runs over whole rows of memory, several
        times faster.
    """

    logs: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def check_stack(stack: Stack, n_systems: int | None = None) -> Checked:
    """Check that a stack holds log-posteriors, natural logarithms, -inf allowed.

    Raises
    ------
    ValueError
        If shapes differ, a row's probabilities do not sum to 1, or there are not `n_systems`.
    """
    systems = [np.asarray(system, dtype=np.float64) for system in stack]
    shapes = [system.shape for system in systems]
    if not systems or len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ValueError(
            f"the systems' log-posteriors have shapes {shapes}; "
            "expected one (n_utterances, n_classes) for all"
        )
    if n_systems not in (None, len(systems)):
        raise ValueError(f"{len(systems)} systems to fuse; the fusion was fitted on {n_systems}")
    given = isinstance(stack, np.ndarray) and stack.dtype == np.float64
    logs = stack if given else np.stack(systems)
    n_systems, n, n_classes = logs.shape
    probabilities = np.empty((n_systems, n_classes, n))
    sums = np.empty((n_systems, n))
    # Block by block within the processor's cache: fresh memory for all of it takes longer than exp.
    block = np.empty((n_systems, min(BLOCK, n), n_classes))
    with np.errstate(over="ignore"):
        for start in range(0, n, BLOCK):
            rows = slice(start, start + BLOCK)
            found = np.exp(logs[:, rows], out=block[:, : min(BLOCK, n - start)])
            probabilities[:, :, rows] = found.transpose(0, 2, 1)
            probabilities[:, :, rows].sum(axis=1, out=sums[:, rows])
    wrong = ~(np.abs(sums - 1) <= SUM_TOLERANCE)  # NaN compares false
    if wrong.any():
        s, row = np.argwhere(wrong)[0]
        raise ValueError(
            f"system {s}, row {row} holds no log-posteriors: its probabilities sum to "
            f"{sums[s, row]:.6g}, expected 1"
        )
    return Checked(logs, probabilities)


def check_labels(y: ArrayLike, logs: NDArray) -> NDArray[np.int64]:
    """Check that `y` holds a class index for each row of a stack."""
    y = class_indices(y, logs.shape[-1], "y")
    if y.shape != logs.shape[1:2]:
        raise ValueError(
            f"y has shape {y.shape}; expected ({logs.shape[1]},) as the log-posteriors have rows"
        )
    return y


def mean_learnt(
    fits: Sequence[Mapping[str, Any]], name: str, n_columns: int
) -> NDArray[np.float64]:
    """The mean over fits of an array that each learnt, whose last axis has `n_columns`."""
    if not fits:
        raise ValueError("there is no fit, and the fusion learns from rows with labels")
    values = [np.asarray(fit[name], dtype=np.float64) for fit in fits]
    odd = [value.shape[-1] for value in values if value.shape[-1] != n_columns]
    if odd:
        raise ValueError(f"a fit has {name} of {odd[0]} columns; expected {n_columns}")
    return np.mean(values, axis=0)


def floored(logs: NDArray) -> NDArray[np.float64]:
    """Log-posteriors not below log(1e-10)."""
    return np.maximum(logs, LOG_FLOOR)


def normalised(scores: NDArray) -> NDArray[np.float64]:
    """Log-posteriors from unnormalised logarithms, over the last axis."""
    return log_softmax(scores, axis=-1)
