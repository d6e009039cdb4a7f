"""Class priors: the one a model was effectively trained with, and the shift to another one.

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


def empirical_prior(labels: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """Relative frequency of each class among the labels.

    Parameters
    ----------
    labels : array of int, shape (n_utterances,)
        Class indices in [0, n_classes).
    n_classes : int
        Number of classes in the class order.

    Returns
    -------
    prior : ndarray of float64, shape (n_classes,)
        Entries in [0, 1], sum 1; 0 for a class without labels.

    Raises
    ------
    ValueError
        If there are no labels, or a label is not a class index.

    Examples
    --------
    >>> empirical_prior([0, 0, 0, 1], n_classes=3)
    array([0.75, 0.25, 0.  ])
    """
    counts = _class_counts(labels, n_classes)
    return counts / counts.sum()


def effective_prior(
    labels: ArrayLike,
    n_classes: int,
    class_weight: ArrayLike | Literal["balanced"] | None = None,
    balanced_sampling: bool = False,
) -> NDArray[np.float64]:
    r"""Prior that a training run effectively sees, loss weights and sampling included.

    A loss weighted by class has the same optimum as an unweighted one on data with the prior
    :math:`\pi_c \propto w_c n_c`. Balanced sampling draws every class equally often, so there
    :math:`\pi_c \propto w_c` over the classes that occur. Doing both corrects twice; the result
    shows it.

    Parameters
    ----------
    labels : array of int, shape (n_utterances,)
        Class indices of the training rows, in [0, n_classes).
    n_classes : int
        Number of classes in the class order.
    class_weight : array of float, shape (n_classes,), or "balanced", optional
        Loss weight of each class, >= 0; only ratios matter. "balanced" is scikit-learn's 1 / n_c.
    balanced_sampling : bool
        Whether the sampler draws every class that occurs equally often.

    Returns
    -------
    prior : ndarray of float64, shape (n_classes,)
        Entries in [0, 1], sum 1; 0 for a class that training never sees.

    Raises
    ------
    ValueError
        If a label is not a class index, the weights have the wrong shape, or leave no class at all.

    References
    ----------
    C. Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.

    Examples
    --------
    >>> effective_prior([0, 0, 0, 1], n_classes=2, class_weight=[1.0, 3.0])
    array([0.5, 0.5])
    """
    counts = _class_counts(labels, n_classes)
    occurs = counts > 0
    if class_weight is None:
        weights = np.ones(n_classes)
    elif isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f'class_weight is {class_weight!r}; expected "balanced", an array or None'
            )
        weights = np.divide(1.0, counts, out=np.zeros(n_classes), where=occurs)
    else:
        weights = np.asarray(class_weight, dtype=np.float64)
        if weights.shape != (n_classes,):
            raise ValueError(f"class_weight has shape {weights.shape}; expected ({n_classes},)")
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"class_weight must be finite and >= 0; got {weights.tolist()}")
    seen = weights * (occurs if balanced_sampling else counts)
    if seen.sum() == 0:
        raise ValueError("class_weight is 0 for every class that occurs: nothing is trained")
    return seen / seen.sum()


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
        log_posteriors = np.asarray(log_posteriors, dtype=np.float64)
        if log_posteriors.ndim != 2 or log_posteriors.shape[1] != log_ratio.size:
            raise ValueError(
                f"log-posteriors have shape {log_posteriors.shape}; expected "
                f"(n_utterances, {log_ratio.size}) as the priors have"
            )
        undefined = ~(log_posteriors < np.inf).all(axis=1)  # NaN compares false, too
        if undefined.any():
            raise ValueError(f"log-posteriors hold NaN or +inf, first in row {undefined.argmax()}")
        shifted = log_posteriors + log_ratio
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
        train = _distribution(self.train_prior, "train_prior")
        if isinstance(self.target, str):
            if self.target != "uniform":
                raise ValueError(
                    f'target is {self.target!r}; expected "uniform" or an array of probabilities'
                )
            target = np.full(train.size, 1.0 / train.size)
        else:
            target = _distribution(self.target, "target")
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


def _class_counts(labels: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"labels have shape {labels.shape}; expected (n_utterances,) with at least one"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels are {labels.dtype}; expected integer class indices")
    wrong = (labels < 0) | (labels >= n_classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"label {labels[row]} in row {row} is not a class index in [0, {n_classes})"
        )
    return np.bincount(labels, minlength=n_classes)


def _distribution(values: ArrayLike, name: str) -> NDArray[np.float64]:
    prior = np.asarray(values, dtype=np.float64)
    if prior.ndim != 1 or prior.size == 0:
        raise ValueError(f"{name} has shape {prior.shape}; expected (n_classes,)")
    if not (prior >= 0).all():
        raise ValueError(f"{name} must hold probabilities >= 0; got {prior.tolist()}")
    if not abs(prior.sum() - 1) <= SUM_TOLERANCE:
        raise ValueError(f"{name} sums to {prior.sum():.6g}; expected 1")
    return prior
