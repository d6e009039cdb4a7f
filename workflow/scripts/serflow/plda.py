"""Probabilistic linear discriminant analysis: a generative classifier of utterance vectors."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from serflow.lda import class_scatter

LOG_2PI = float(np.log(2 * np.pi))


class PLDA(ClassifierMixin, BaseEstimator):
    r"""Two-covariance model: Gaussian class centres, Gaussian rows around them.

    .. math:: y_c \sim N(\mu, B), \quad x \mid c \sim N(y_c, W)

    EM fits :math:`\mu`, B and W by maximum likelihood; classes may differ in size. The training
    rows then enrol their classes: with n rows and the mean :math:`\bar x_c`,

    .. math::
        y_c \mid X_c \sim N(m_c, C_c), \quad
        m_c = \mu + B (B + W / n)^{-1} (\bar x_c - \mu), \quad
        C_c = B - B (B + W / n)^{-1} B, \quad
        x \mid X_c \sim N(m_c, W + C_c)

    and a row's posteriors follow from these predictive densities and a prior. The class sizes of
    the training enter through :math:`C_c` only, hence "independent of the prior probability of the
    categories in the training data" in the paper. B has at most n_classes - 1 dimensions; that is
    the maximum of the likelihood, and no inverse of B is taken.

    Parameters
    ----------
    prior : {"uniform", "empirical"}
        Prior of the posteriors: equal, or the class frequencies of the training rows.
    shrinkage : float
        In [0, 1]: from the scatter within classes to a round one of the same trace, before EM.
    max_iter : int
        Iterations of EM at most, at least 1.
    tol : float
        EM ends when an iteration gains less log-likelihood per row than this, in nats.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    prior_ : ndarray of float64, shape (n_classes,)
    mean_ : ndarray of float64, shape (n_features,)
        :math:`\mu`
    between_, within_ : ndarray of float64, shape (n_features, n_features)
        B and W.
    projection_ : ndarray of float64, shape (n_features, n_features)
        Coordinates in which W is the identity and B diagonal.
    between_variance_ : ndarray of float64, shape (n_features,)
        The diagonal of B there, ascending.
    class_means_, class_variances_ : ndarray of float64, shape (n_classes, n_features)
        :math:`m_c - \mu` and the diagonal of :math:`C_c` there.
    log_likelihoods_ : ndarray of float64, shape (n_iter_ + 1,)
        Of all training rows together, at the start and after each iteration.
    n_iter_ : int

    References
    ----------
    S. Ioffe, "Probabilistic linear discriminant analysis", ECCV 2006.
    N. Brümmer and E. de Villiers, "The speaker partitioning problem", Odyssey 2010.
    H. Härm and T. Alumäe, "TalTech systems for the Odyssey 2024 emotion recognition challenge",
    section 5.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], [900, 100])
    >>> x = rng.normal(size=(1000, 2)) + 2 * y[:, None]
    >>> plda = PLDA().fit(x, y)
    >>> np.exp(plda.predict_log_proba([[1.0, 1.0], [2.0, 2.0]])).round(1)
    array([[0.5, 0.5],
           [0. , 1. ]])
    """

    def __init__(
        self,
        prior: Literal["uniform", "empirical"] = "uniform",
        shrinkage: float = 0.0,
        max_iter: int = 500,
        tol: float = 1e-7,
    ) -> None:
        self.prior = prior
        self.shrinkage = shrinkage
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: ArrayLike, y: ArrayLike) -> PLDA:
        """Fit the model by EM and enrol the classes.

        Parameters
        ----------
        X : array of float, shape (n, n_features)
        y : array, shape (n,)
            Class labels.

        Raises
        ------
        ValueError
            If a parameter is out of range, there is one class only, or the covariance within
            classes is singular.
        """
        if self.prior not in ("uniform", "empirical"):
            raise ValueError(f"prior is {self.prior!r}; expected uniform or empirical")
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage is {self.shrinkage}; expected 0 to 1")
        if self.max_iter < 1:
            raise ValueError(f"max_iter is {self.max_iter}; expected 1 or more")
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, label = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(f"PLDA needs two classes; there is {n_classes} class")
        counts, means, scatter = class_scatter(X, label)
        size = X.shape[1]
        ridge = np.trace(scatter) / size * np.eye(size)
        scatter = (1 - self.shrinkage) * scatter + self.shrinkage * ridge
        values = eigh(scatter, eigvals_only=True)
        if values[0] <= 1e-12 * values[-1]:
            raise ValueError(
                "the within-class covariance is singular: fewer rows than features, or features "
                "that depend on each other; raise shrinkage, or reduce the features first"
            )
        self.prior_ = np.full(n_classes, 1 / n_classes)
        if self.prior == "empirical":
            self.prior_ = counts / len(X)
        self._expectation_maximisation(counts, means, scatter)
        return self

    def _expectation_maximisation(
        self, counts: NDArray[np.int64], means: NDArray, scatter: NDArray
    ) -> None:
        # The class means and the scatter within classes are sufficient statistics.
        n = counts[:, None]
        self.mean_ = means.mean(axis=0)
        self.between_ = np.cov(means.T, bias=True).reshape(scatter.shape)
        self.within_ = scatter / (counts.sum() - len(counts))
        self._diagonalise()
        log_likelihoods = [self._log_likelihood(counts, means, scatter)]
        for _ in range(self.max_iter):
            centre, variance = self._enrol(counts, means)
            distance = (means - self.mean_) @ self.projection_ - centre
            # E[(x - y_c)(x - y_c)'] summed over rows, E[(y_c - mu)(y_c - mu)'] over classes.
            rows = self.projection_.T @ scatter @ self.projection_
            rows += distance.T @ (n * distance) + np.diag((n * variance).sum(axis=0))
            spread = centre - centre.mean(axis=0)
            classes = spread.T @ spread + np.diag(variance.sum(axis=0))
            back = self.within_ @ self.projection_  # the inverse of projection_.T
            self.mean_ = self.mean_ + back @ centre.mean(axis=0)
            self.between_ = back @ (classes / len(counts)) @ back.T
            self.within_ = back @ (rows / counts.sum()) @ back.T
            self._diagonalise()
            log_likelihoods.append(self._log_likelihood(counts, means, scatter))
            if log_likelihoods[-1] - log_likelihoods[-2] < self.tol * counts.sum():
                break
        self.log_likelihoods_ = np.array(log_likelihoods)
        self.n_iter_ = len(log_likelihoods) - 1
        self.class_means_, self.class_variances_ = self._enrol(counts, means)

    def _diagonalise(self) -> None:
        values, self.projection_ = eigh(self.between_, self.within_)
        self.between_variance_ = np.maximum(values, 0)  # rounding leaves -1e-17 beyond B's rank

    def _enrol(self, counts: NDArray[np.int64], means: NDArray) -> tuple[NDArray, NDArray]:
        """Posterior mean and variance of each class centre, in the coordinates of `projection_`."""
        n, between = counts[:, None], self.between_variance_
        variance = between / (n * between + 1)
        return n * variance * ((means - self.mean_) @ self.projection_), variance

    def _log_likelihood(self, counts: NDArray[np.int64], means: NDArray, scatter: NDArray) -> float:
        """Log-density of all rows: of the residuals, and of the mean of each class."""
        n_classes, size = means.shape
        log_det_within = -2 * np.linalg.slogdet(self.projection_)[1]
        normaliser = size * LOG_2PI + log_det_within
        residual = (counts.sum() - n_classes) * normaliser + size * np.log(counts).sum()
        residual += np.einsum("ij,jk,ki", self.projection_.T, scatter, self.projection_)
        u = (means - self.mean_) @ self.projection_
        variance = self.between_variance_ + 1 / counts[:, None]
        centres = n_classes * normaliser + (np.log(variance) + u**2 / variance).sum()
        return -0.5 * float(residual + centres)

    def log_likelihood_ratios(self, X: ArrayLike) -> NDArray[np.float64]:
        r"""Log-likelihood ratio of "of this class" to "of a class never seen".

        .. math:: \log N(x; m_c, W + C_c) - \log N(x; \mu, W + B)

        Parameters
        ----------
        X : array of float, shape (n, n_features)

        Returns
        -------
        ratios : ndarray of float64, shape (n, n_classes)
            In nats; independent of any prior.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        u = (X - self.mean_) @ self.projection_
        unseen = _log_density(u, 0, 1 + self.between_variance_)
        of_class = [
            _log_density(u, mean, 1 + variance)
            for mean, variance in zip(self.class_means_, self.class_variances_, strict=True)
        ]
        return np.stack(of_class, axis=1) - unseen[:, None]

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Log-posteriors under `prior_`, shape (n, n_classes), of vectors (n, n_features)."""
        return log_softmax(self.log_likelihood_ratios(X) + np.log(self.prior_), axis=1)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Posteriors under `prior_`, shape (n, n_classes), of vectors (n, n_features)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: ArrayLike) -> NDArray:
        """Most probable class of each vector, shape (n,), of vectors (n, n_features)."""
        log_posteriors = self.predict_log_proba(X)
        return self.classes_[log_posteriors.argmax(axis=1)]


def _log_density(u: NDArray, mean: ArrayLike, variance: NDArray) -> NDArray[np.float64]:
    """Gaussian with diagonal covariance, up to a constant; u has shape (n, n_features)."""
    return -0.5 * (np.log(variance).sum() + ((u - mean) ** 2 / variance).sum(axis=1))
