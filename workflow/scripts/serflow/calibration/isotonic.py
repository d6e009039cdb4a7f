"""Isotonic regression of each class against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from serflow.calibration.interface import Calibration, Rows


class IsotonicOneVsRest(Calibration):
    r"""Each class's posterior by a rising function of its own, then all renormalised.

    The function is scikit-learn's isotonic regression of "is the class" on the class's posterior,
    straight lines between its thresholds, constant beyond them. Three things it leaves open:

    - It gives 0 to what was never right in the fit rows, an infinite loss at the first exception.
      Values below 1 / (n + 2), Laplace's estimate after n rows without one, are raised to it.
    - Rows to which all the functions give 0 keep the posteriors that they came with.
    - Values of the classes do not sum to 1 and are divided by their sum; this need not be the best
      fit to all classes together, and may change decisions.

    The mean of several (`mean_of`) has the means of their functions, before these are divided.

    Attributes
    ----------
    steps_ : ndarray of float64, shape (n_steps, 3)
        Class index, posterior and calibrated value of each threshold, in that order of sorting.
    floor_ : float
        1 / (n + 2), n the rows of `fit` whose weight is not 0.
    keeps_prior : False
    n_classes_ : int

    References
    ----------
    B. Zadrozny and C. Elkan, "Transforming classifier scores into accurate multiclass probability
    estimates", KDD 2002.

    Examples
    --------
    >>> dev = np.log([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    >>> calibration = IsotonicOneVsRest().fit(dev, [0, 1, 0, 1])
    >>> np.exp(calibration.predict_log_proba(dev)).round(3)
    array([[0.857, 0.143],
           [0.5  , 0.5  ],
           [0.5  , 0.5  ],
           [0.143, 0.857]])
    """

    _learns = ("steps_", "floor_")

    def _learn(self, rows: Rows) -> None:
        steps = []
        for c, posterior in enumerate(np.exp(rows.logs).T):
            regression = IsotonicRegression(y_min=0.0, y_max=1.0)
            regression.fit(posterior, rows.y == c, sample_weight=rows.weights)
            thresholds = regression.X_thresholds_, regression.y_thresholds_
            steps.append(np.column_stack([np.full(len(thresholds[0]), float(c)), *thresholds]))
        self.steps_ = np.concatenate(steps)
        self.floor_ = 1.0 / (len(rows.y) + 2)

    def _take_mean(self, fitted: Sequence[Self]) -> None:
        steps = []
        for c in range(self.n_classes_):
            # Straight lines between the thresholds of all: so is their mean.
            at = np.unique(np.concatenate([one._steps_of(c)[0] for one in fitted]))
            shares = np.mean([np.interp(at, *one._steps_of(c)) for one in fitted], axis=0)
            steps.append(np.column_stack([np.full(len(at), float(c)), at, shares]))
        self.steps_ = np.concatenate(steps)
        self.floor_ = float(np.mean([one.floor_ for one in fitted]))

    def _steps_of(self, c: int) -> NDArray[np.float64]:
        """Thresholds and values of a class, shape (2, n)."""
        return self.steps_[self.steps_[:, 0] == c, 1:].T

    def _scores(self, logs: NDArray[np.float64]) -> NDArray[np.float64]:
        posteriors = np.exp(logs)
        values = np.empty_like(posteriors)
        for c in range(self.n_classes_):
            values[:, c] = np.interp(posteriors[:, c], *self._steps_of(c))
        lost = ~(values > 0).any(axis=1, keepdims=True)
        return np.where(lost, logs, np.log(np.maximum(values, self.floor_)))

    def _free(self, n_classes: int) -> int:
        return 2 * n_classes  # a step in each class
