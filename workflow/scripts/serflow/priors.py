"""The shift of posteriors from the prior that a model was trained with to another one.

A classifier's posteriors carry the class frequencies of its training. Where the test set has other
frequencies (Odyssey 2024: skewed training, uniform evaluation), they are exchanged for those.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, TransformerMixin

SUM_TOLERANCE = 1e-6


class PriorShift(TransformerMixin, BaseEstimator):
    r"""Posteriors under another class prior.

    .. math:: p'(y \mid x) \propto p(y \mid x) \, \frac{\pi_{target}(y)}{\pi_{train}(y)}

    computed in log space and renormalised. Nothing is learnt from data: `fit` only checks the two
    priors, and `transform` works without it.

    Parameters
    ----------
    train_prior : array of float, shape (n_classes,)
        Prior the model was effectively trained with (see `effective_prior`); sums to 1.
    target : "uniform" or array of float, shape (n_classes,)
        Prior expected where the posteriors are used; sums to 1. A class with target 0 becomes
        impossible.

    References
    ----------
    M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to new a
    priori probabilities: a simple procedure", Neural Computation 14(1), 2002.
    H. Härm and T. Alumäe, "TalTech systems for the Odyssey 2024 emotion recognition challenge",
    section 3.2.

    Examples
    --------
    >>> shift = PriorShift(train_prior=[0.9, 0.1])
    >>> np.exp(shift.transform(np.log([[0.9, 0.1], [0.5, 0.5]]))).round(3)
    array([[0.5, 0.5],
           [0.1, 0.9]])
    """

    def __init__(self, train_prior: ArrayLike, target: Literal["uniform"] | ArrayLike = "uniform"):
        self.train_prior = train_prior
        self.target = target

    def fit(self, log_posteriors: object = None, y: object = None) -> PriorShift:
        """Check the two priors; the data are ignored.

        Returns
        -------
        self : PriorShift

        Raises
        ------
        ValueError
            As in `transform`.
        """
        self._log_ratio()
        return self

    def transform(self, log_posteriors: ArrayLike) -> NDArray[np.float64]:
        """Shift log-posteriors from the training prior to the target prior.

        Parameters
        ----------
        log_posteriors : array of float, shape (n_utterances, n_classes)
            Natural logarithms; -inf stands for an impossible class.

        Returns
        -------
        shifted : ndarray of float64, shape (n_utterances, n_classes)
            Natural logarithms, each row's logsumexp 0.

        Raises
        ------
        ValueError
            If a prior is not a distribution; if a class has train prior 0 and a positive target; if
            shapes differ; if a posterior is NaN or +inf; if a row allows only classes whose target
            is 0.
        """
        log_ratio = self._log_ratio()
        shifted = check_log_posteriors(log_posteriors, log_ratio.size) + log_ratio
        total = logsumexp(shifted, axis=1, keepdims=True)
        impossible = np.isneginf(total[:, 0])
        if impossible.any():
            raise ValueError(
                f"row {impossible.argmax()} gives all its probability to classes whose target "
                "prior is 0: no class is left"
            )
        return shifted - total

    def __sklearn_is_fitted__(self) -> bool:
        return True  # nothing is learnt

    def _log_ratio(self) -> NDArray[np.float64]:
        train = check_distribution(self.train_prior, "train_prior")
        if isinstance(self.target, str):
            if self.target != "uniform":
                raise ValueError(
                    f'target is {self.target!r}; expected "uniform" or an array of probabilities'
                )
            target = np.full(train.size, 1.0 / train.size)
        else:
            target = check_distribution(self.target, "target")
        if target.shape != train.shape:
            raise ValueError(f"target has {target.size} classes, train_prior has {train.size}")
        unseen = (train == 0) & (target > 0)
        if unseen.any():
            c = int(unseen.argmax())
            raise ValueError(
                f"class {c} has train prior 0 but target {target[c]:.4g}: the model was never "
                "trained on it, so no shift can bring it back; give a target that is 0 there, or "
                "leave the class out"
            )
        # A class with target 0 becomes impossible whatever its train prior, so 0/0 never arises.
        log_ratio = np.full(train.size, -np.inf)
        wanted = target > 0
        log_ratio[wanted] = np.log(target[wanted]) - np.log(train[wanted])
        return log_ratio


def check_distribution(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Check that values are probabilities of classes.

    Parameters
    ----------
    values : array of float, shape (n_classes,)
    name : str
        What to call them in the error.

    Returns
    -------
    values : ndarray of float64, shape (n_classes,)

    Raises
    ------
    ValueError
        If there are none, one is negative or NaN, or they do not sum to 1.

    Examples
    --------
    >>> check_distribution([0.25, 0.75], "target")
    array([0.25, 0.75])
    """
    prior = np.asarray(values, dtype=np.float64)
    if prior.ndim != 1 or prior.size == 0:
        raise ValueError(f"{name} has shape {prior.shape}; expected (n_classes,)")
    if not (prior >= 0).all():
        raise ValueError(f"{name} must hold probabilities >= 0; got {prior.tolist()}")
    if not abs(prior.sum() - 1) <= SUM_TOLERANCE:
        raise ValueError(f"{name} sums to {prior.sum():.6g}; expected 1")
    return prior


def check_log_posteriors(
    values: ArrayLike, n_classes: int, name: str = "log-posteriors"
) -> NDArray[np.float64]:
    """Check the shape of log-posteriors, and that none is NaN or +inf.

    Parameters
    ----------
    values : array of float, shape (n_utterances, n_classes)
        Natural logarithms; -inf stands for an impossible class.
    n_classes : int
    name : str
        What to call them in the error.

    Returns
    -------
    values : ndarray of float64, same shape

    Raises
    ------
    ValueError
        If there is another number of classes, or a value is NaN or +inf.

    Examples
    --------
    >>> check_log_posteriors([[0, -np.inf]], n_classes=2)
    array([[  0., -inf]])
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != n_classes:
        raise ValueError(
            f"{name} have shape {values.shape}; expected (n_utterances, {n_classes}), a column "
            "for each class"
        )
    undefined = ~(values < np.inf).all(axis=1)  # NaN compares false, too
    if undefined.any():
        raise ValueError(f"{name} hold NaN or +inf, first in row {undefined.argmax()}")
    return values
