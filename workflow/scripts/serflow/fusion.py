"""Late fusion of the log-posteriors of several systems: interpolations, and logistic regression.

All functions take a stack of log-posteriors, shape (n_systems, n_utterances, n_classes) or a list
of (n_utterances, n_classes), natural logarithms, -inf allowed. `cross_fit` fuses where there is no
dev set.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from math import comb
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from serflow.metrics import METRICS, class_indices, confusion

LOG_FLOOR = float(np.log(1e-10))  # logistic regression needs finite features
SUM_TOLERANCE = 1e-6
TIE = 1e-12  # objectives closer than this are equal: last-bit noise must not choose the weights
MAX_GRID_POINTS = 1_000_000
CHUNK_VALUES = 2**22  # 32 MiB of float64 at a time

Stack = Sequence[ArrayLike] | NDArray


class Fusion(Protocol):
    """The methods `cross_fit` needs of a fusion."""

    def fit(self, stack: Stack, y: ArrayLike) -> Fusion:
        """Learn from log-posteriors (n_systems, n_utterances, n_classes) and class indices."""

    def predict_log_proba(self, stack: Stack) -> NDArray[np.float64]:
        """Fuse log-posteriors into one, shape (n_utterances, n_classes)."""


def simplex_grid(n_systems: int, step: float) -> NDArray[np.float64]:
    """All weight vectors whose entries are multiples of `step` and sum to 1.

    Parameters
    ----------
    n_systems : int
        At least 1.
    step : float
        In (0, 1], and 1 / step an integer.

    Returns
    -------
    grid : ndarray of float64, shape (n_points, n_systems)
        Sorted by the first system's weight, then the second's, and so on; n_points is
        binomial(1 / step + n_systems - 1, n_systems - 1).

    Raises
    ------
    ValueError
        If 1 / step is not an integer, or the grid has more than a million points.

    Examples
    --------
    >>> simplex_grid(2, step=0.5)
    array([[0. , 1. ],
           [0.5, 0.5],
           [1. , 0. ]])
    """
    parts = round(1 / step) if 0 < step <= 1 else 0
    if abs(parts * step - 1) > 1e-9:
        raise ValueError(
            f"step is {step}; expected 1 divided by a whole number, such as 0.05 or 0.1"
        )
    if n_systems < 1:
        raise ValueError("no systems to fuse")
    n_points = comb(parts + n_systems - 1, n_systems - 1)
    if n_points > MAX_GRID_POINTS:
        raise ValueError(
            f"step {step} over {n_systems} systems makes {n_points:,} weight vectors, more than "
            f"{MAX_GRID_POINTS:,}; take a coarser step, fewer systems or LogisticRegressionFusion"
        )
    # Stars and bars: the gaps between the bars are the weights, counted in steps.
    bars = np.array(list(combinations(range(parts + n_systems - 1), n_systems - 1)), dtype=np.int64)
    bars = bars.reshape(n_points, n_systems - 1)
    gaps = np.diff(bars, axis=1, prepend=-1, append=parts + n_systems - 1) - 1
    return gaps / parts


class LinearInterpolation(BaseEstimator):
    r"""Weighted mean of the systems' posteriors, the weights found by grid search.

    .. math:: p(y \mid x) = \sum_s w_s \, p_s(y \mid x), \quad w_s \ge 0, \quad \sum_s w_s = 1

    Equally good grid points (within 1e-12): the one nearest to equal weights wins; if that is still
    a tie, the first in the order of `grid_`, which has the smaller weight on the earlier system.

    Parameters
    ----------
    step : float
        Grid step, in (0, 1]; 1 / step must be an integer.
    objective : {"macro_f1", "uar", "nll"}
        What to optimise on the fit rows: the metric of that name is maximised; "nll", the mean
        negative log-posterior of the reference class in nats, is minimised.

    Attributes
    ----------
    weights_ : ndarray of float64, shape (n_systems,)
        The chosen weights.
    grid_ : ndarray of float64, shape (n_points, n_systems)
        Every weight vector tried.
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
        self, step: float = 0.05, objective: Literal["macro_f1", "uar", "nll"] = "macro_f1"
    ):
        self.step = step
        self.objective = objective

    def fit(self, stack: Stack, y: ArrayLike) -> LinearInterpolation:
        """Score every grid point and keep the best.

        Parameters
        ----------
        stack : array of float, shape (n_systems, n_utterances, n_classes)
            Log-posteriors.
        y : array of int, shape (n_utterances,)
            Reference class indices.

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
        stack = _check_stack(stack)
        y = _check_labels(y, stack)
        self.grid_ = simplex_grid(len(stack), self.step)
        size = max(1, CHUNK_VALUES // stack[0].size)
        score = self._nll if self.objective == "nll" else self._metric
        self.objective_ = np.concatenate(
            [score(self.grid_[i : i + size], stack, y) for i in range(0, len(self.grid_), size)]
        )
        gain = -self.objective_ if self.objective == "nll" else self.objective_
        tied = np.flatnonzero(gain >= gain.max() - TIE)
        uneven = ((self.grid_[tied] - 1 / len(stack)) ** 2).sum(axis=1).round(12)
        self.weights_ = self.grid_[tied[uneven.argmin()]]
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
        stack = _check_stack(stack, n_systems=len(self.weights_))
        return _interpolate(self.weights_[None], stack)[0]

    def _metric(self, grid: NDArray, stack: NDArray, y: NDArray) -> NDArray[np.float64]:
        # Only the best class matters here, so plain probabilities do, ten times faster than
        # logarithms. A sum over systems rather than a matrix product: its last bits do not depend
        # on the BLAS.
        mixed = sum(grid[:, s, None, None] * np.exp(stack[s]) for s in range(len(stack)))
        return METRICS[self.objective](confusion(y, mixed.argmax(axis=-1), stack.shape[-1]))

    def _nll(self, grid: NDArray, stack: NDArray, y: NDArray) -> NDArray[np.float64]:
        return -_interpolate(grid, stack[:, np.arange(len(y)), y]).mean(axis=-1)


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
        stack = _check_stack(stack, n_systems=len(self.weights_))
        return log_softmax(_weighted_logs(self.weights_[None], stack)[0], axis=-1)

    def _metric(self, grid: NDArray, stack: NDArray, y: NDArray) -> NDArray[np.float64]:
        best = _weighted_logs(grid, stack).argmax(axis=-1)
        return METRICS[self.objective](confusion(y, best, stack.shape[-1]))

    def _nll(self, grid: NDArray, stack: NDArray, y: NDArray) -> NDArray[np.float64]:
        mixed = log_softmax(_weighted_logs(grid, stack), axis=-1)
        return -mixed[:, np.arange(len(y)), y].mean(axis=-1)


class LogisticRegressionFusion(BaseEstimator):
    """Multinomial logistic regression on the systems' log-posteriors side by side.

    Log-posteriors below log(1e-10) are raised to it first, as the regression needs finite features.
    It sees no other scaling, so its L2 penalty has the strength the paper states.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty on the coefficients, > 0, as in scikit-learn. 1.0 is a
        penalty of 1.0.
    max_iter : int
        Iterations of L-BFGS at most.

    Attributes
    ----------
    regression_ : sklearn.linear_model.LogisticRegression
        Fitted on features of shape (n_utterances, n_systems * n_classes), system by system.
    n_systems_ : int
        Number of systems it was fitted on.

    References
    ----------
    H. Härm and T. Alumäe, "TalTech systems for the Odyssey 2024 emotion recognition challenge",
    section 3.3.1.

    Examples
    --------
    >>> speech = np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    >>> text = np.log([[0.7, 0.3], [0.6, 0.4], [0.3, 0.7], [0.3, 0.7]])
    >>> fusion = LogisticRegressionFusion().fit([speech, text], [0, 0, 1, 1])
    >>> fusion.predict_log_proba([speech, text]).argmax(axis=1)
    array([0, 0, 1, 1])
    """

    def __init__(self, C: float = 1.0, max_iter: int = 10_000):
        self.C = C
        self.max_iter = max_iter

    def fit(self, stack: Stack, y: ArrayLike) -> LogisticRegressionFusion:
        """Fit the regression.

        Parameters
        ----------
        stack : array of float, shape (n_systems, n_utterances, n_classes)
            Log-posteriors.
        y : array of int, shape (n_utterances,)
            Reference class indices; every class must occur.

        Returns
        -------
        self : LogisticRegressionFusion

        Raises
        ------
        ValueError
            If the stack holds no log-posteriors, `y` does not fit it, or a class has no row in `y`.
        """
        stack = _check_stack(stack)
        y = _check_labels(y, stack)
        missing = np.setdiff1d(np.arange(stack.shape[-1]), y)
        if missing.size:
            raise ValueError(
                f"no fit row has class {', '.join(map(str, missing))}: the regression cannot "
                "learn it; fit on rows that hold every class"
            )
        self.regression_ = LogisticRegression(C=self.C, max_iter=self.max_iter)
        # One thread: the products are so small that threads slow them down, twentyfold where jobs
        # share the cores, and the last bits of the result would depend on the core count.
        with threadpool_limits(limits=1, user_api="blas"):
            self.regression_.fit(_features(stack), y)
        self.n_systems_ = len(stack)
        return self

    def predict_log_proba(self, stack: Stack) -> NDArray[np.float64]:
        """Fuse the posteriors of the systems.

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
            If the stack holds no log-posteriors, or other systems or classes than in `fit`.
        """
        check_is_fitted(self)
        stack = _check_stack(stack, n_systems=self.n_systems_)
        scores = self.regression_.decision_function(_features(stack))
        if scores.ndim == 1:  # two classes: only the log-odds of the second
            scores = np.column_stack([np.zeros_like(scores), scores])
        # scikit-learn's own predict_log_proba takes the logarithm of a probability that may have
        # become 0.
        return log_softmax(scores, axis=1)


def cross_fit(
    make_fusion: Callable[[], Fusion], stack: Stack, y: ArrayLike, folds: ArrayLike
) -> tuple[NDArray[np.float64], dict[Hashable, Fusion]]:
    """Fuse each fold with a fusion fitted on the other folds only.

    The rows a fusion is scored on never choose its weights: the labels of a fold's rows do not
    reach the fusion that predicts them.

    Parameters
    ----------
    make_fusion : callable
        Returns a new, unfitted fusion.
    stack : array of float, shape (n_systems, n_utterances, n_classes)
        Log-posteriors, out-of-fold themselves.
    y : array of int, shape (n_utterances,)
        Reference class indices.
    folds : array of int or str, shape (n_utterances,)
        Fold of each row; at least two folds.

    Returns
    -------
    log_posteriors : ndarray of float64, shape (n_utterances, n_classes)
        Fused, in the order of the rows.
    fusions : dict
        Fold to the fusion that predicted its rows, in sorted order.

    Raises
    ------
    ValueError
        If there are fewer than two folds, shapes differ, or a fusion cannot be fitted (the fold is
        named).

    Examples
    --------
    >>> speech = np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    >>> text = np.log([[0.7, 0.3], [0.6, 0.4], [0.3, 0.7], [0.3, 0.7]])
    >>> fused, fusions = cross_fit(
    ...     LogisticRegressionFusion, [speech, text], y=[0, 0, 1, 1], folds=[1, 2, 1, 2]
    ... )
    >>> fused.shape, list(fusions)
    ((4, 2), [1, 2])
    """
    stack = _check_stack(stack)
    y = _check_labels(y, stack)
    folds = np.asarray(folds)
    if folds.shape != y.shape:
        raise ValueError(f"folds have shape {folds.shape}; expected {y.shape}")
    names = np.unique(folds).tolist()
    if len(names) < 2:
        raise ValueError(
            f"cross-fitting needs two folds or more; all rows are in fold {names[0]!r}"
        )
    fused = np.empty(stack.shape[1:])
    fusions: dict[Hashable, Fusion] = {}
    for fold in names:
        scored = folds == fold
        try:
            fusions[fold] = make_fusion().fit(stack[:, ~scored], y[~scored])
        except ValueError as error:
            raise ValueError(
                f"fusion for fold {fold!r}, fitted on the other folds: {error}"
            ) from error
        fused[scored] = fusions[fold].predict_log_proba(stack[:, scored])
    return fused, fusions


def _interpolate(grid: NDArray, stack: NDArray) -> NDArray[np.float64]:
    """Interpolate a stack (n_systems, ...) at every point of a grid (n_points, n_systems)."""
    # A weight of 0 is a log-weight of -inf, which logaddexp passes over.
    with np.errstate(divide="ignore"):
        log_weights = np.log(grid).reshape(*grid.shape, *[1] * (stack.ndim - 1))
    mixed = log_weights[:, 0] + stack[0]
    for s in range(1, len(stack)):
        mixed = np.logaddexp(mixed, log_weights[:, s] + stack[s])
    return mixed


def _weighted_logs(grid: NDArray, stack: NDArray) -> NDArray[np.float64]:
    """Weighted sums of log-posteriors: (n_points, n_systems) to (n_points, n, n_classes)."""
    logs = np.maximum(stack, LOG_FLOOR)
    return sum(grid[:, s, None, None] * logs[s] for s in range(len(logs)))


def _features(stack: NDArray) -> NDArray[np.float64]:
    return np.concatenate(np.maximum(stack, LOG_FLOOR), axis=1)


def _check_stack(stack: Stack, n_systems: int | None = None) -> NDArray[np.float64]:
    systems = [np.asarray(system, dtype=np.float64) for system in stack]
    shapes = [system.shape for system in systems]
    if not systems or len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ValueError(
            f"the systems' log-posteriors have shapes {shapes}; "
            "expected one (n_utterances, n_classes) for all"
        )
    if n_systems not in (None, len(systems)):
        raise ValueError(f"{len(systems)} systems to fuse; the fusion was fitted on {n_systems}")
    for s, system in enumerate(systems):
        wrong = ~(np.abs(logsumexp(system, axis=1)) <= SUM_TOLERANCE)  # NaN compares false
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"system {s}, row {row} holds no log-posteriors: its probabilities sum to "
                f"{np.exp(system[row]).sum():.6g}, expected 1"
            )
    return np.stack(systems)


def _check_labels(y: ArrayLike, stack: NDArray) -> NDArray[np.int64]:
    y = class_indices(y, stack.shape[-1], "y")
    if y.shape != stack.shape[1:2]:
        raise ValueError(
            f"y has shape {y.shape}; expected ({stack.shape[1]},) as the log-posteriors have rows"
        )
    return y
