"""Linear and log-linear interpolation of posteriors, the weights chosen on rows with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from serflow.fusion.objectives import (
    LinearLikelihood,
    LogLinearLikelihood,
    MetricObjective,
    Objective,
    mix,
)
from serflow.fusion.simplex import TIE, search
from serflow.fusion.stacks import (
    Checked,
    Stack,
    check_labels,
    check_stack,
    floored,
    mean_learnt,
    normalised,
)

CURVE_STEP = 0.05  # of the curve that is kept beside exact weights


class LinearInterpolation(BaseEstimator):
    r"""Weighted mean of the systems' posteriors, the weights found by grid search.

    .. math:: p(y \mid x) = \sum_s w_s \, p_s(y \mid x), \quad w_s \ge 0, \quad \sum_s w_s = 1

    Up to three systems every grid point is tried, beyond three the search goes from coarse to fine
    (`serflow.fusion.simplex.search`). Equally good points (within 1e-12): the one nearest to equal
    weights wins; if that is still a tie, the first in the order of `grid_`, which has the smaller
    weight on the earlier system.

    Parameters
    ----------
    step : float or "exact"
        Grid step, in (0, 1]; 1 / step must be an integer. "exact", for two systems only: the best
        of all weights, not of a grid.
    objective : {"macro_f1", "uar", "nll"}
        What to optimise on the fit rows: the metric of that name is maximised; "nll", the mean
        negative log-posterior of the reference class in nats, is minimised.

    Attributes
    ----------
    weights_ : ndarray of float64, shape (n_systems,)
        The chosen weights.
    grid_ : ndarray of float64, shape (n_points, n_systems)
        Every weight vector tried; with exact weights those and a curve in steps of 0.05.
    objective_ : ndarray of float64, shape (n_points,)
        The objective's value at each of them (the interpolation curve).

    References
    ----------
    H. Härm and T. Alumäe, "TalTech systems for the Odyssey 2024 emotion recognition challenge",
    section 3.3.1: step 0.05, optimised on the balanced development data.

    Examples
    --------
    >>> speech = np.log([[0.6, 0.4], [0.55, 0.45], [0.3, 0.7]])
    >>> text = np.log([[0.3, 0.7], [0.05, 0.95], [0.2, 0.8]])
    >>> fusion = LinearInterpolation(step=0.25).fit([speech, text], [0, 1, 1])
    >>> fusion.weights_
    array([0.75, 0.25])
    """

    def __init__(
        self,
        step: float | Literal["exact"] = 0.05,
        objective: Literal["macro_f1", "uar", "nll"] = "macro_f1",
    ):
        self.step = step
        self.objective = objective

    def fit(
        self, stack: Stack, y: ArrayLike, groups: ArrayLike | None = None
    ) -> LinearInterpolation:
        """Search the grid and keep the best point.

        Parameters
        ----------
        stack : array of float, shape (n_systems, n_utterances, n_classes)
            Log-posteriors.
        y : array of int, shape (n_utterances,)
            Reference class indices.
        groups : ignored

        Returns
        -------
        self : LinearInterpolation

        Raises
        ------
        ValueError
            If the stack holds no log-posteriors, `y` does not fit it, or a parameter is out of
            range.
        """
        if self.objective not in ("macro_f1", "uar", "nll"):
            raise ValueError(f"objective is {self.objective!r}; expected macro_f1, uar or nll")
        checked = check_stack(stack)
        objective = self._objective(checked, check_labels(y, checked.logs))
        exact = self.step == "exact"
        if exact and len(checked.logs) != 2:
            raise ValueError(
                f"step is 'exact', which is for two systems, not {len(checked.logs)}; give a step "
                "such as 0.05"
            )
        self.weights_, self.grid_, gains = search(
            len(checked.logs), CURVE_STEP if exact else self.step, objective.line
        )
        if exact:
            share, gain = objective.best_between()
            if gain > gains.max() + TIE:
                self.weights_ = np.array([share, 1 - share])
                place = int(np.searchsorted(self.grid_[:, 0], share))
                self.grid_ = np.insert(self.grid_, place, self.weights_, axis=0)
                gains = np.insert(gains, place, gain)
        self.objective_ = -gains if self.objective == "nll" else gains
        return self

    def predict_log_proba(self, stack: Stack) -> NDArray[np.float64]:
        """Interpolate the posteriors of the systems.

        Parameters
        ----------
        stack : array of float, shape (n_systems, n_utterances, n_classes)
            Log-posteriors, systems in the order of `fit`.

        Returns
        -------
        log_posteriors : ndarray of float64, shape (n_utterances, n_classes)

        Raises
        ------
        ValueError
            If the stack holds no log-posteriors, or another number of systems than in `fit`.
        """
        check_is_fitted(self)
        logs = check_stack(stack, n_systems=len(self.weights_)).logs
        used = np.flatnonzero(self.weights_)
        return mix(np.log(self.weights_[used]), logs[used])

    def learnt(self) -> dict[str, Any]:
        """Weights and curve, as JSON."""
        return {
            "weights": self.weights_.tolist(),
            "grid": self.grid_.tolist(),
            "objective": self.objective_.tolist(),
        }

    @classmethod
    def from_learnt(cls, fits: Sequence[Mapping[str, Any]], n_systems: int) -> Self:
        """An interpolation with the mean weights of one or several fits.

        Parameters
        ----------
        fits : sequence of mapping
            What `learnt()` gave, also after a way through JSON.
        n_systems : int

        Returns
        -------
        fusion : LinearInterpolation
            Predicts what the original predicts, bit for bit, where there is one fit. It has no
            `grid_` and no `objective_`.

        Raises
        ------
        ValueError
            If there is no fit, or one of another number of systems.
        """
        fusion = cls()
        fusion.weights_ = mean_learnt(fits, "weights", n_systems)
        return fusion

    def prior(self, priors: NDArray, fit_shares: NDArray) -> NDArray[np.float64]:
        """The class prior that fused posteriors express.

        Parameters
        ----------
        priors : ndarray of float64, shape (n_systems, n_classes)
            Those that the systems' posteriors express.
        fit_shares : ndarray of float64, shape (n_classes,)
            Class shares of the rows that the fusion was fitted on.
        """
        return self.weights_ @ priors

    def _objective(self, checked: Checked, y: NDArray) -> Objective:
        if self.objective == "nll":
            return LinearLikelihood(checked.logs[:, np.arange(len(y)), y])
        return MetricObjective(checked.probabilities, y, self.objective)


class LogLinearInterpolation(LinearInterpolation):
    r"""Weighted geometric mean of the systems' posteriors, the weights found by grid search.

    .. math:: p(y \mid x) \propto \prod_s p_s(y \mid x)^{w_s}, \quad w_s \ge 0, \quad
        \sum_s w_s = 1

    A class that one system finds unlikely stays unlikely, where a linear interpolation lets the
    others outvote it. Posteriors below 1e-10 are raised to it first: a single 0 would otherwise
    veto a class whatever the weights.

    Parameters, attributes and ties are those of `LinearInterpolation`.

    References
    ----------
    G. Hinton, "Products of experts", ICANN 1999. C. Genest and J. Zidek, "Combining probability
    distributions: a critique and an annotated bibliography", Statistical Science 1(1), 1986.

    Examples
    --------
    >>> speech = np.log([[0.6, 0.4], [0.55, 0.45], [0.3, 0.7]])
    >>> text = np.log([[0.3, 0.7], [0.05, 0.95], [0.2, 0.8]])
    >>> fusion = LogLinearInterpolation(step=0.25).fit([speech, text], [0, 1, 1])
    >>> fusion.weights_
    array([0.75, 0.25])
    """

    def predict_log_proba(self, stack: Stack) -> NDArray[np.float64]:
        """Fuse; arguments, result and errors are those of `LinearInterpolation`."""
        check_is_fitted(self)
        logs = floored(check_stack(stack, n_systems=len(self.weights_)).logs)
        return normalised(np.tensordot(self.weights_, logs, axes=1))

    def prior(self, priors: NDArray, fit_shares: NDArray) -> NDArray[np.float64]:
        """As of `LinearInterpolation`: likelihoods and priors are pooled alike."""
        used = self.weights_ > 0  # a class that no training saw keeps its 0
        pooled = np.prod(priors[used] ** self.weights_[used, None], axis=0)
        return pooled / pooled.sum()

    def _objective(self, checked: Checked, y: NDArray) -> Objective:
        logs = np.ascontiguousarray(floored(checked.logs).transpose(0, 2, 1))
        if self.objective == "nll":
            return LogLinearLikelihood(logs, y)
        return MetricObjective(logs, y, self.objective)
