"""Maximum likelihood of scores that are linear in their parameters, by L-BFGS-B."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from serflow.calibration.interface import Rows

BOUNDS = (0.01, 100.0)  # of every factor of a class's own log-posterior
GRADIENT = 1e-9  # nats per unit of a parameter, at the optimum
LOOSE_GRADIENT = 1e-5  # what is good enough where rounding ends the search early

Penalty = Callable[[NDArray], tuple[float, NDArray]]


def maximise_likelihood(
    rows: Rows,
    scores: Callable[[NDArray], NDArray],
    gradient: Callable[[NDArray, NDArray], NDArray],
    start: NDArray,
    bounds: Sequence[tuple[float | None, float | None]],
    penalty: Penalty | None = None,
) -> NDArray[np.float64]:
    """Parameters of the least mean negative log-likelihood, in nats, plus a penalty.

    Parameters
    ----------
    rows : Rows
    scores : callable
        Parameters (n_parameters,) to scores (n_utterances, n_classes), whose softmax is the model.
    gradient : callable
        Parameters, and the loss's derivative by the scores, to its derivative by the parameters.
    start : array of float, shape (n_parameters,)
    bounds : sequence of (low, high)
        One pair a parameter.
    penalty : callable, optional
        Parameters to a penalty and its derivative.

    Returns
    -------
    parameters : ndarray of float64, shape (n_parameters,)

    Warns
    -----
    ConvergenceWarning
        If the search ends while the loss still slopes.
    """
    index = np.arange(len(rows.y))

    def loss(values: NDArray) -> tuple[float, NDArray]:
        logs = log_softmax(scores(values), axis=1)
        residuals = np.exp(logs)
        residuals[index, rows.y] -= 1.0
        residuals *= rows.weights[:, None]
        total = -float(rows.weights @ logs[index, rows.y])
        slopes = gradient(values, residuals)
        if penalty is not None:
            extra, its_slopes = penalty(values)
            total, slopes = total + extra, slopes + its_slopes
        return total, slopes

    options = {"maxiter": 10_000, "maxfun": 20_000, "maxcor": 50, "ftol": 0.0, "gtol": GRADIENT}
    # One thread: the products are small, and the last bits must not depend on the core count.
    with threadpool_limits(limits=1, user_api="blas"):
        found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
    low, high = np.array(
        [(-np.inf if a is None else a, np.inf if b is None else b) for a, b in bounds]
    ).T
    left = found.x - np.clip(found.x - found.jac, low, high)  # slopes that no bound stops
    if np.abs(left).max() > LOOSE_GRADIENT:
        warnings.warn(
            f"calibration did not converge: {found.message}; the loss still slopes by "
            f"{np.abs(left).max():.2g}",
            ConvergenceWarning,
            stacklevel=4,
        )
    return found.x
