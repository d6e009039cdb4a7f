r"""Temperature and vector scaling: log-posteriors made flatter or steeper, and shifted by class.

.. math:: \log \hat p(y \mid x) = s_y \log p(y \mid x) + b_y + \text{const}

Temperature scaling has one :math:`s = 1 / T` and no bias.

References
----------
C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On calibration of modern neural networks", ICML 2017,
section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from serflow.calibration.interface import Calibration, Rows
from serflow.calibration.likelihood import BOUNDS, maximise_likelihood


class TemperatureScaling(Calibration):
    r"""Posteriors of another temperature.

    .. math:: \hat p(y \mid x) \propto p(y \mid x)^{1 / T}

    The negative log-likelihood is convex in 1 / T, and T is where its derivative is 0, to machine
    precision. T stays between 0.01 and 100: rows whose reference is always the most probable class
    would drive it to 0, and rows that the posteriors say nothing about, or lie about, to infinity.
    Where every posterior is uniform any T is as good as another, and T is 1.

    The order of the classes never changes, so neither do decisions. Nothing is learnt about one
    class rather than another, so the class prior counts as kept, and a prior shift may follow. A
    uniform prior is kept exactly; of another one the two steps do not commute, as a shift is scaled
    too where it comes first. A class without rows in `fit` does no harm.

    scikit-learn's `CalibratedClassifierCV(method="temperature")` finds the same T inside the bounds
    (scikit-learn 1.9, private `_TemperatureScaling`). It wants a classifier and its decision function,
    takes minus infinity for no score, and has no bound short of exp(10).

    Attributes
    ----------
    temperature_ : float
        T, in [0.01, 100]; above 1 the posteriors were overconfident.
    at_bound_ : bool
        Whether T is at a bound: the rows do not determine it.
    keeps_prior : True
    n_classes_ : int

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> dev = np.log([[0.99, 0.01], [0.99, 0.01], [0.99, 0.01], [0.01, 0.99]])
    >>> calibration = TemperatureScaling().fit(dev, [0, 0, 1, 1])
    >>> round(calibration.temperature_, 3)
    4.183
    >>> np.exp(calibration.predict_log_proba(dev[:1])).round(3)
    array([[0.75, 0.25]])
    """

    keeps_prior: ClassVar[bool] = True
    needs_every_class: ClassVar[bool] = False
    _learns = ("temperature_", "at_bound_")

    def _learn(self, rows: Rows) -> None:
        # Relative to each row's largest, rows of equal posteriors add exactly nothing to the slope.
        logs = rows.logs - rows.logs.max(axis=1, keepdims=True)
        target = rows.weights @ logs[np.arange(len(rows.y)), rows.y]

        def slope(log_scale: float) -> float:
            """Derivative of the loss by 1 / T: expected less observed log-posterior."""
            expected = (softmax(np.exp(log_scale) * logs, axis=1) * logs).sum(axis=1)
            return float(rows.weights @ expected - target)

        low, high = np.log(BOUNDS)
        flat, steep = slope(low) >= 0, slope(high) <= 0
        if not logs.any():
            self.temperature_ = 1.0
        elif flat or steep:
            self.temperature_ = 1.0 / BOUNDS[0 if flat else 1]
        else:
            self.temperature_ = float(np.exp(-brentq(slope, low, high, xtol=1e-15)))
        self.at_bound_ = bool(logs.any() and (flat or steep))

    def _take_mean(self, fitted: Sequence[Self]) -> None:
        # Of 1 / T, which is the scale: one T at its bound of 100 then says next to nothing.
        self.temperature_ = float(1 / np.mean([1 / one.temperature_ for one in fitted]))
        self.at_bound_ = any(one.at_bound_ for one in fitted)

    def _scores(self, logs: NDArray[np.float64]) -> NDArray[np.float64]:
        return logs / self.temperature_

    def _free(self, n_classes: int) -> int:
        return 1


class VectorScaling(Calibration):
    r"""Temperature scaling with a bias for each class.

    .. math:: \hat p(y \mid x) \propto p(y \mid x)^{s_y} e^{b_y}, \quad \sum_y b_y = 0

    Biases take the posteriors to the class shares of the fit rows: a prior shift, learnt. The
    scales stay in [0.01, 100], so that no class's evidence is inverted and perfectly separated rows
    have an optimum.

    Parameters
    ----------
    scale : {"common", "class"}
        One scale for all classes, temperature and bias, or one for each, as in Guo et al. 2017.

    Attributes
    ----------
    scale_ : ndarray of float64, shape (n_classes,)
        :math:`s_y`; all equal to 1 / T where they are common.
    bias_ : ndarray of float64, shape (n_classes,)
        :math:`b_y`, in nats.
    at_bound_ : bool
        Whether a scale is at a bound: the rows do not determine it.
    keeps_prior : False
    n_classes_ : int

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
    N. Brummer and D. van Leeuwen, "On calibration of language recognition scores", Odyssey 2006
    (one scale and a bias for each class).

    Examples
    --------
    >>> dev = np.log([[0.8, 0.2], [0.8, 0.2], [0.5, 0.5], [0.2, 0.8], [0.8, 0.2], [0.5, 0.5]])
    >>> calibration = VectorScaling().fit(dev, [0, 1, 1, 1, 0, 1])
    >>> calibration.bias_.argmax()
    np.int64(1)
    """

    _learns = ("scale_", "bias_", "at_bound_")

    def __init__(self, scale: Literal["common", "class"] = "common"):
        self.scale = scale

    def _learn(self, rows: Rows) -> None:
        n_classes = self.n_classes_
        n_scales = self._n_scales(n_classes)
        # About each class's mean, scales and biases hardly depend on each other: fewer iterations.
        mean = rows.weights @ rows.logs
        logs = rows.logs - mean

        def scores(values: NDArray) -> NDArray:
            return logs * values[:n_scales] + values[n_scales:]

        def gradient(values: NDArray, residuals: NDArray) -> NDArray:
            by_class = (residuals * logs).sum(axis=0)
            by_scale = by_class if n_scales > 1 else by_class.sum(keepdims=True)
            return np.concatenate([by_scale, residuals.sum(axis=0)])

        start = np.concatenate([np.ones(n_scales), mean])
        bounds = [BOUNDS] * n_scales + [(None, None)] * n_classes
        found = maximise_likelihood(rows, scores, gradient, start, bounds)
        self.scale_ = np.broadcast_to(found[:n_scales], n_classes).copy()
        bias = found[n_scales:] - self.scale_ * mean
        self.bias_ = bias - bias.mean()
        self.at_bound_ = bool(np.isin(self.scale_, BOUNDS).any())

    def _scores(self, logs: NDArray[np.float64]) -> NDArray[np.float64]:
        return logs * self.scale_ + self.bias_

    def _free(self, n_classes: int) -> int:
        return self._n_scales(n_classes) + n_classes - 1

    def _n_scales(self, n_classes: int) -> int:
        if self.scale not in ("common", "class"):
            raise ValueError(f"scale is {self.scale!r}; expected common or class")
        return n_classes if self.scale == "class" else 1
