"""Transforms and classifiers of fixed-length utterance vectors, as scikit-learn estimators."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data


class WithinClassWhitening(TransformerMixin, BaseEstimator):
    r"""Make the covariance within classes round (within-class covariance normalisation).

    .. math:: W = (1 - \lambda) S_w + \lambda \frac{\mathrm{tr} S_w}{d} I, \quad
              z = x W^{-1/2} / \sqrt{d}

    Directions in which speakers and sentences differ inside one emotion lose weight.

    Parameters
    ----------
    shrinkage : float
        :math:`\lambda` in [0, 1]: from the pooled within-class covariance to the identity.

    Attributes
    ----------
    projection_ : ndarray of float64, shape (n_features, n_features)

    References
    ----------
    A. Hatch, S. Kajarekar and A. Stolcke, "Within-class covariance normalization for SVM-based
    speaker recognition", Interspeech 2006.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 2)) * [1, 10]
    >>> z = WithinClassWhitening(shrinkage=0.0).fit_transform(x, np.zeros(200))
    >>> np.round(z.std(axis=0) * np.sqrt(2), 1)
    array([1., 1.])
    """

    def __init__(self, shrinkage: float = 0.3) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: ArrayLike, y: ArrayLike) -> WithinClassWhitening:
        """Learn the whitening.

        Parameters
        ----------
        X : array of float, shape (n, n_features)
        y : array, shape (n,)
            Class labels.

        Raises
        ------
        ValueError
            If `shrinkage` is outside [0, 1], or the shrunk covariance is singular.
        """
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage is {self.shrinkage}; expected 0 to 1")
        X, y = validate_data(self, X, y, dtype=np.float64)
        label = np.unique(y, return_inverse=True)[1]
        means = np.stack([X[label == c].mean(axis=0) for c in range(label.max() + 1)])
        residual = X - means[label]
        scatter = residual.T @ residual / len(X)
        dimension = len(scatter)
        ridge = np.trace(scatter) / dimension * np.eye(dimension)
        values, vectors = eigh((1 - self.shrinkage) * scatter + self.shrinkage * ridge)
        if values[0] <= 1e-12 * values[-1]:
            raise ValueError("the within-class covariance is singular; raise shrinkage")
        self.projection_ = vectors / np.sqrt(values * dimension)
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Whiten vectors, shape (n, n_features) to the same shape."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False) @ self.projection_
