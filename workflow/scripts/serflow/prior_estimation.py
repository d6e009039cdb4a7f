"""The class prior of rows without labels, from the posteriors that a classifier gives them.

Both estimates assume label shift: the prior differs from that of training, while what the utterances
of a class are like does not. They read no label of the rows whose prior they estimate, so they may be
used on test rows; they do look at all of these at once.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from serflow.metrics import class_indices
from serflow.priors import check_distribution, check_log_posteriors


def estimate_prior_em(
    log_posteriors: ArrayLike,
    train_prior: ArrayLike,
    tol: float = 1e-8,
    max_iter: int = 10_000,
) -> NDArray[np.float64]:
    r"""Class prior under which unlabelled posteriors are most likely, by expectation-maximisation.

    From :math:`\pi^{(0)} = \pi_{train}`, posteriors are shifted to the prior and averaged to the
    next one, until nothing is gained:

    .. math:: p^{(s)}(y \mid x_i) \propto p(y \mid x_i) \, \frac{\pi^{(s)}(y)}{\pi_{train}(y)},
              \qquad \pi^{(s+1)}(y) = \frac{1}{n} \sum_i p^{(s)}(y \mid x_i)

    The log-likelihood of the prior is concave and no step lowers it, so the fixed point is a
    maximum. It trusts the posteriors: overconfident ones should be calibrated first.

    Parameters
    ----------
    log_posteriors : array of float, shape (n_utterances, n_classes)
        Natural logarithms, expressing `train_prior`; -inf stands for an impossible class.
    train_prior : array of float, shape (n_classes,)
        Prior the model was effectively trained with; sums to 1. A class with 0 keeps 0.
    tol : float
        Mean log-likelihood an utterance, in nats, that the estimate may lack of the maximum; the
        gap is bounded by the gradient, so slow progress is not taken for the end.
    max_iter : int
        Steps after which to stop with a ConvergenceWarning.

    Returns
    -------
    prior : ndarray of float64, shape (n_classes,)
        Sums to 1.

    Raises
    ------
    ValueError
        If `train_prior` is not a distribution, shapes differ, there are no utterances, a posterior
        is NaN or +inf, or a row allows only classes with train prior 0.

    References
    ----------
    M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to new a
    priori probabilities: a simple procedure", Neural Computation 14(1), 2002, section 2.2.

    Examples
    --------
    >>> neutral, angry = [0.95, 0.05], [0.30, 0.70]  # posteriors of a model that saw 80 % neutral
    >>> estimate_prior_em(np.log([neutral] * 20 + [angry] * 30), [0.8, 0.2]).round(2)
    array([0.29, 0.71])
    """
    train = check_distribution(train_prior, "train_prior")
    log_posteriors = _rows(log_posteriors, train.size, "log-posteriors")
    seen = train > 0
    likelihood = np.full(log_posteriors.shape, -np.inf)
    likelihood[:, seen] = log_posteriors[:, seen] - np.log(train[seen])
    largest = likelihood.max(axis=1, keepdims=True)
    lost = np.isneginf(largest[:, 0])
    if lost.any():
        raise ValueError(
            f"row {lost.argmax()} gives all its probability to classes whose train prior is 0: the "
            "model cannot have been trained with this prior"
        )
    # Relative to the likeliest class of its row, nothing overflows, and what underflows weighs
    # nothing. The factor of a row cancels.
    likelihood = np.exp(likelihood - largest)
    prior = train
    for _ in range(max_iter):
        gradient = (1 / (likelihood @ prior)) @ likelihood / len(likelihood)
        if gradient[seen].max() - 1 <= tol:  # bounds the gap to the maximum of a concave function
            break
        prior = prior * gradient
    else:
        warnings.warn(
            f"the prior has not converged after {max_iter} steps: it may still gain "
            f"{gradient[seen].max() - 1:.2g} nats an utterance; raise max_iter or tol",
            ConvergenceWarning,
            stacklevel=2,
        )
    return prior / prior.sum()


def estimate_prior_bbse(
    log_posteriors: ArrayLike,
    reference_log_posteriors: ArrayLike,
    reference_labels: ArrayLike,
    *,
    decisions: Literal["soft", "hard"] = "soft",
    max_condition: float = 100.0,
) -> NDArray[np.float64]:
    r"""Class prior of unlabelled rows from the confusions on labelled ones.

    What is predicted for the unlabelled rows is a mixture of what is predicted for each class:

    .. math:: \hat p(\hat y) = \sum_y \hat p_{ref}(\hat y \mid y) \, \pi(y)

    is solved for :math:`\pi`, negative entries are set to 0 and the rest is rescaled to sum to 1.
    Posteriors need not be calibrated, only as wrong on one side as on the other.

    Parameters
    ----------
    log_posteriors : array of float, shape (n_utterances, n_classes)
        Natural logarithms; -inf stands for an impossible class.
    reference_log_posteriors : array of float, shape (n_reference, n_classes)
        Of the same model, on rows that it was not trained on.
    reference_labels : array of int, shape (n_reference,)
        Class indices in [0, n_classes). Their shares do not matter. Every class needs rows, but for
        one that is impossible (-inf) in all rows on both sides: its prior is 0.
    decisions : {"soft", "hard"}
        Whether predictions are posteriors or the most probable class. Soft ones vary less, and
        tell classes apart that are never the most probable.
    max_condition : float
        Largest condition number of the confusions; sampling errors of the predictions can grow as
        many times in the prior.

    Returns
    -------
    prior : ndarray of float64, shape (n_classes,)
        Sums to 1; may hold zeros.

    Raises
    ------
    ValueError
        If shapes differ, there are no utterances, a posterior is NaN or +inf, a label is not a
        class index, a class lacks reference rows, or the confusions do not tell the classes apart.

    References
    ----------
    Z. Lipton, Y.-X. Wang and A. Smola, "Detecting and correcting for label shift with black box
    predictors", ICML 2018.

    Examples
    --------
    >>> neutral, angry = [0.9, 0.1], [0.4, 0.6]
    >>> reference = np.log([neutral] * 50 + [angry] * 50)
    >>> unlabelled = np.log([neutral] * 20 + [angry] * 30)
    >>> estimate_prior_bbse(unlabelled, reference, [0] * 50 + [1] * 50).round(2)
    array([0.4, 0.6])
    """
    if decisions not in ("soft", "hard"):
        raise ValueError(f'decisions is {decisions!r}; expected "soft" or "hard"')
    reference_log_posteriors = np.asarray(reference_log_posteriors, dtype=np.float64)
    n_classes = reference_log_posteriors.shape[-1] if reference_log_posteriors.ndim else 0
    reference_log_posteriors = _rows(
        reference_log_posteriors, n_classes, "reference log-posteriors"
    )
    log_posteriors = _rows(log_posteriors, n_classes, "log-posteriors")
    labels = class_indices(reference_labels, n_classes, "reference")
    if labels.shape != reference_log_posteriors.shape[:1]:
        raise ValueError(
            f"reference_labels have shape {labels.shape}; expected "
            f"{reference_log_posteriors.shape[:1]} as the reference log-posteriors have rows"
        )
    possible = ~np.isneginf(np.concatenate([reference_log_posteriors, log_posteriors])).all(axis=0)
    counts = np.bincount(labels, minlength=n_classes)
    used = possible | (counts > 0)
    missing = used & (counts == 0)
    if missing.any():
        raise ValueError(
            f"class {missing.argmax()} has no reference rows, so what is predicted for it is not "
            "known; give labelled rows of every class, or estimate the prior by EM"
        )
    predicted = _predictions(reference_log_posteriors, decisions)
    given = (predicted.T @ np.eye(n_classes)[labels])[:, used] / counts[used]
    condition = np.linalg.cond(given[used])
    if not condition <= max_condition:
        raise ValueError(
            f"predictions of the reference rows hardly depend on the class (condition number "
            f"{condition:.3g}, at most {max_condition:g} is allowed): this prior would be noise; "
            "estimate it by EM, or give it"
        )
    prior = np.zeros(n_classes)
    shares = _predictions(log_posteriors, decisions).mean(axis=0)
    prior[used] = np.linalg.solve(given[used], shares[used]).clip(min=0)
    return prior / prior.sum()


def _predictions(log_posteriors: NDArray, decisions: str) -> NDArray[np.float64]:
    if decisions == "hard":
        return np.eye(log_posteriors.shape[1])[log_posteriors.argmax(axis=1)]
    return np.exp(log_posteriors - logsumexp(log_posteriors, axis=1, keepdims=True))


def _rows(log_posteriors: ArrayLike, n_classes: int, name: str) -> NDArray[np.float64]:
    log_posteriors = check_log_posteriors(log_posteriors, n_classes, name)
    if not len(log_posteriors):
        raise ValueError(f"{name} have no rows; expected at least one")
    return log_posteriors
