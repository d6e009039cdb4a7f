"""Fusions that learn nothing: what any learnt one should beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator

from serflow.fusion.stacks import Stack, check_labels, check_stack

MEAN_SHARE = 0.01  # of the mean posterior in a vote; two votes differ by more, below 99 systems


class MeanFusion(BaseEstimator):
    """Unweighted mean of the systems' posteriors.

    Examples
    --------
    >>> one, two = np.log([[0.9, 0.1]]), np.log([[0.4, 0.6]])
    >>> np.exp(MeanFusion().fit([one, two], [0]).predict_log_proba([one, two])).round(2)
    array([[0.65, 0.35]])
    """

    def fit(self, stack: Stack, y: ArrayLike, groups: ArrayLike | None = None) -> MeanFusion:
        """Check the input; nothing is learnt.

        Raises
        ------
        ValueError
            If the stack holds no log-posteriors, or `y` does not fit it.
        """
        logs = check_stack(stack).logs
        check_labels(y, logs)
        self.n_systems_ = len(logs)
        return self

    def predict_log_proba(self, stack: Stack) -> NDArray[np.float64]:
        """Mean posteriors: (n_systems, n_utterances, n_classes) to (n_utterances, n_classes).

        Raises
        ------
        ValueError
            If the stack holds no log-posteriors, or another number of systems than in `fit`.
        """
        logs = check_stack(stack, n_systems=self.n_systems_).logs
        return logsumexp(logs, axis=0) - np.log(len(logs))

    def learnt(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    @classmethod
    def from_learnt(cls, fits: Sequence[Mapping[str, Any]], n_systems: int) -> Self:
        """A fusion of so many systems; there is nothing to take over."""
        fusion = cls()
        fusion.n_systems_ = n_systems
        return fusion

    def prior(self, priors: NDArray, fit_shares: NDArray) -> NDArray[np.float64]:
        """Class prior that fused posteriors express, the mean of the systems'; of votes, about."""
        return priors.mean(axis=0)


class MajorityVote(MeanFusion):
    """Share of the systems that decide for each class; ties go to the higher mean posterior.

    For that, one hundredth of the result is the mean posterior. The shares are no calibrated
    probabilities.

    Examples
    --------
    >>> votes = np.log([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])
    >>> MajorityVote().fit(votes, [0]).predict_log_proba(votes).argmax(axis=1)
    array([1])
    """

    def predict_log_proba(self, stack: Stack) -> NDArray[np.float64]:
        """Vote; arguments, result and errors are those of `MeanFusion`."""
        mean = super().predict_log_proba(stack)
        winners = check_stack(stack).logs.argmax(axis=-1)
        shares = np.eye(mean.shape[1])[winners].mean(axis=0)
        with np.errstate(divide="ignore"):  # no vote at all
            votes = np.log((1 - MEAN_SHARE) * shares)
        return np.logaddexp(votes, np.log(MEAN_SHARE) + mean)
