"""Classification of utterance embeddings: normalisation, discriminant analysis, a linear model.

A fine-tuned network serves as an extractor of embeddings, and this takes the place of its output
layer (Odyssey 2024).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from serflow.lda import LengthNormalisation, LinearDiscriminantTransform
from serflow.plda import PLDA
from serflow.training_prior import empirical_prior

MAX_ITER = 1000  # of L-BFGS, which takes some dozens on whitened vectors


class EmbeddingBackend(ClassifierMixin, BaseEstimator):
    """Embeddings to log-posteriors under a chosen prior.

    `LengthNormalisation`, then `LinearDiscriminantTransform`, then multinomial logistic regression
    or `PLDA`. Logistic regression takes on the class frequencies of its training rows; its biases
    are then shifted by log(prior / frequency), which multiplies the posteriors by that ratio.

    Parameters
    ----------
    n_classes : int, optional
        The classes are 0 to n_classes - 1, in the order of the posteriors. Rows with another label,
        such as the network's extra classes "other" and "no agreement", are left out of `fit`. A
        class without rows gets the log-posterior -inf. None: the classes are the labels that occur.
    dim : int
        Dimensions after the discriminant analysis.
    mode : {"whiten", "emotion_x_gender", "clip"}
        How 15 dimensions come of 8 classes: see `LinearDiscriminantTransform`.
    normalise_length : bool
        Scale the centred embeddings to equal length. Without it they are only centred; scaling each
        feature to unit variance instead would change nothing, since the discriminant analysis
        whitens anyway.
    classifier : {"logistic_regression", "plda"}
    C : float
        Inverse strength of the L2 penalty of the logistic regression, > 0, as in scikit-learn.
    prior : {"uniform", "empirical"}
        Prior of the posteriors: equal for every class that occurs, or the frequencies in training.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    prior_ : ndarray of float64, shape (n_classes,)
        The prior that the posteriors express; 0 for a class without rows.
    normalisation_ : LengthNormalisation
    discriminants_ : LinearDiscriminantTransform
    classifier_ : sklearn.linear_model.LogisticRegression or PLDA
        With the biases shifted.

    References
    ----------
    H. Härm and T. Alumäe, "TalTech systems for the Odyssey 2024 emotion recognition challenge",
    section 3.1; section 5 for PLDA. The paper says "feature normalization" and leaves the kind
    open, as it does C; Kaldi's recipe for logistic regression on embeddings (egs/lre07) normalises
    length and shifts the biases in the same way.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1, 9], [900, 100, 500])  # 9 is "other"
    >>> x = rng.normal(size=(1500, 4)) + np.outer(y == 1, [2, 0, 0, 0])
    >>> backend = EmbeddingBackend(n_classes=2, dim=2, normalise_length=False).fit(x, y)
    >>> np.exp(backend.predict_log_proba([[0.0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]])).round(1)
    array([[0.9, 0.1],
           [0.5, 0.5],
           [0.1, 0.9]])
    """

    def __init__(
        self,
        n_classes: int | None = None,
        dim: int = 15,
        mode: Literal["whiten", "emotion_x_gender", "clip"] = "whiten",
        normalise_length: bool = True,
        classifier: Literal["logistic_regression", "plda"] = "logistic_regression",
        C: float = 1.0,
        prior: Literal["uniform", "empirical"] = "uniform",
    ) -> None:
        self.n_classes = n_classes
        self.dim = dim
        self.mode = mode
        self.normalise_length = normalise_length
        self.classifier = classifier
        self.C = C
        self.prior = prior

    def fit(self, X: ArrayLike, y: ArrayLike, gender: ArrayLike | None = None) -> EmbeddingBackend:
        """Fit the chain.

        Parameters
        ----------
        X : array of float, shape (n, n_features)
            Embeddings.
        y : array, shape (n,)
            Labels; with `n_classes` given, integers.
        gender : array, shape (n,), optional
            Only for `mode` 'emotion_x_gender'; None or NaN where it is not known.

        Raises
        ------
        ValueError
            If a parameter is out of range, fewer than two classes occur, or a part of the chain
            cannot be fitted (see there).
        """
        if self.classifier not in ("logistic_regression", "plda"):
            raise ValueError(
                f"classifier is {self.classifier!r}; expected logistic_regression or plda"
            )
        if self.prior not in ("uniform", "empirical"):
            raise ValueError(f"prior is {self.prior!r}; expected uniform or empirical")
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_consistent_length(X, gender)
        check_classification_targets(y)
        self.classes_ = np.unique(y) if self.n_classes is None else np.arange(self.n_classes)
        kept = np.isin(y, self.classes_)
        if not kept.any():
            raise ValueError(f"no label is a class: none is in 0 to {self.n_classes - 1}")
        if not kept.all():
            X, y = X[kept], y[kept]
            gender = None if gender is None else np.asarray(gender, dtype=object)[kept]
        label = np.searchsorted(self.classes_, y)
        train_prior = empirical_prior(label, len(self.classes_))
        self.prior_ = (train_prior > 0) / np.count_nonzero(train_prior)
        if self.prior == "empirical":
            self.prior_ = train_prior
        # One thread: the last bits of the result would depend on the core count.
        with threadpool_limits(limits=1, user_api="blas"):
            self.normalisation_ = LengthNormalisation(scale=self.normalise_length).fit(X)
            X = self.normalisation_.transform(X)
            self.discriminants_ = LinearDiscriminantTransform(self.dim, self.mode)
            self.discriminants_.fit(X, label, gender=gender)
            X = self.discriminants_.transform(X)
            if self.classifier == "plda":
                self.classifier_ = PLDA(prior=self.prior).fit(X, label)
            else:
                self.classifier_ = LogisticRegression(C=self.C, max_iter=MAX_ITER)
                self.classifier_.fit(X, label)
                seen = self.classifier_.classes_
                _shift_biases(self.classifier_, self.prior_[seen] / train_prior[seen])
        return self

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Log-posteriors under `prior_`.

        Parameters
        ----------
        X : array of float, shape (n, n_features)

        Returns
        -------
        log_posteriors : ndarray of float64, shape (n, n_classes)
            Natural logarithms, classes in the order of `classes_`; -inf for a class without rows.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        X = self.discriminants_.transform(self.normalisation_.transform(X))
        log_posteriors = np.full((len(X), len(self.classes_)), -np.inf)
        log_posteriors[:, self.classifier_.classes_] = (
            self.classifier_.predict_log_proba(X)
            if self.classifier == "plda"
            else log_softmax(_scores(self.classifier_, X), axis=1)
        )
        return log_posteriors

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Posteriors under `prior_`, shape (n, n_classes), of embeddings (n, n_features)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: ArrayLike) -> NDArray:
        """Most probable class of each embedding, shape (n,), of embeddings (n, n_features)."""
        log_posteriors = self.predict_log_proba(X)
        return self.classes_[log_posteriors.argmax(axis=1)]


def _shift_biases(regression: LogisticRegression, ratio: NDArray[np.float64]) -> None:
    """Multiply the posteriors by a ratio, shape (n_classes,), up to their renormalisation."""
    shift = np.log(ratio)
    # Of two classes scikit-learn keeps only the log-odds of the second.
    regression.intercept_ = regression.intercept_ + (
        shift if len(shift) > 2 else shift[1] - shift[0]
    )


def _scores(regression: LogisticRegression, X: NDArray) -> NDArray[np.float64]:
    """Unnormalised log-posteriors, shape (n, n_classes).

    scikit-learn's own predict_log_proba takes the logarithm of a probability that may have become
    0.
    """
    scores = regression.decision_function(X)
    if scores.ndim == 1:
        return np.column_stack([np.zeros_like(scores), scores])
    return scores
