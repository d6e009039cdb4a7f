"""The class prior that a model was effectively trained with.

Apart from `priors`, so that an edit of the rebalancing retrains nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
