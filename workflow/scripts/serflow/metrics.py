"""Classification metrics, all from confusion counts, each with the definition printed beside it.

A confusion matrix has the reference in its rows and the hypothesis in its columns. Every metric
works over leading dimensions, so folds (n_folds, C, C), grid points and bootstrap resamples are one
call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Metric:
    """A metric, its printed name and its printed definition.

    Parameters
    ----------
    name : str
        Key in `METRICS` and in the scores table.
    title : str
        Name as the field prints it.
    definition : str
        One sentence: what is averaged over what, and what happens to classes without reference
        utterances.
    function : callable
        Confusion counts (..., C, C) to values (...) + (C,) * `class_axes`.
    class_axes : int
        0 for one number, 1 for one a class, 2 for one a cell.
    lower_is_better : bool

    Examples
    --------
    >>> METRICS["uar"]([[8, 2], [1, 1]])
    np.float64(0.65)
    """

    name: str
    title: str
    definition: str
    function: Callable[[NDArray], NDArray[np.float64]]
    class_axes: int = 0
    lower_is_better: bool = False

    def __call__(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Value of the metric on confusion counts, shape (..., C, C); NaN where it is undefined."""
        return self.function(np.asarray(counts, dtype=np.float64))


def class_indices(labels: ArrayLike, n_classes: int, name: str) -> NDArray[np.integer]:
    """Check that labels are class indices.

    Parameters
    ----------
    labels : array of int, any shape
    n_classes : int
        Number of classes in the class order.
    name : str
        What to call the labels in the error.

    Returns
    -------
    labels : ndarray of int, same shape

    Raises
    ------
    ValueError
        If a label is not an integer in [0, n_classes).

    Examples
    --------
    >>> class_indices([0, 2], n_classes=3, name="reference")
    array([0, 2])
    """
    labels = np.asarray(labels)
    if labels.size and labels.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {labels.dtype}; expected integer class indices")
    wrong = (labels < 0) | (labels >= n_classes)
    if wrong.any():
        where = np.unravel_index(wrong.argmax(), labels.shape)
        raise ValueError(
            f"{name} holds {labels[where]} in row {where[-1]}; expected 0 to {n_classes - 1}"
        )
    return labels.astype(np.int64, copy=False)


def confusion(reference: ArrayLike, hypothesis: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Confusion counts; rows are reference classes, columns hypothesis classes.

    Parameters
    ----------
    reference : array of int, shape (n_utterances,)
        Class indices in [0, n_classes).
    hypothesis : array of int, shape (..., n_utterances)
        Class indices; leading dimensions are separate systems on the same utterances.
    n_classes : int
        Number of classes in the class order.

    Returns
    -------
    counts : ndarray of int64, shape (..., n_classes, n_classes)

    Raises
    ------
    ValueError
        If a label is not a class index, or lengths differ.

    Examples
    --------
    >>> confusion([0, 0, 1], [0, 1, 1], n_classes=2)
    array([[1, 1],
           [0, 1]])
    """
    reference = class_indices(reference, n_classes, "reference")
    hypothesis = class_indices(hypothesis, n_classes, "hypothesis")
    if reference.ndim != 1 or hypothesis.shape[-1:] != reference.shape:
        raise ValueError(
            f"reference has shape {reference.shape} and hypothesis {hypothesis.shape}; "
            "expected (n_utterances,) and (..., n_utterances)"
        )
    leading, cells = hypothesis.shape[:-1], n_classes**2
    n_systems = int(np.prod(leading))
    cell = (reference * n_classes + hypothesis).reshape(n_systems, -1)
    cell = cell + cells * np.arange(n_systems)[:, None]
    counts = np.bincount(cell.ravel(), minlength=n_systems * cells)
    return counts.reshape(*leading, n_classes, n_classes)


def _ratio(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    # As `whole` lies in memory: resamples may be its innermost axis.
    out = np.full_like(whole, np.nan, dtype=np.float64)
    return np.divide(part, whole, out=out, where=whole > 0)


def _recall(counts: NDArray) -> NDArray[np.float64]:
    return _ratio(_correct(counts), counts.sum(axis=-1))


def _precision(counts: NDArray) -> NDArray[np.float64]:
    return _ratio(_correct(counts), counts.sum(axis=-2))


def _f1(counts: NDArray) -> NDArray[np.float64]:
    return _ratio(2 * _correct(counts), counts.sum(axis=-1) + counts.sum(axis=-2))


def _correct(counts: NDArray) -> NDArray:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _mean_over_reference_classes(values: NDArray, counts: NDArray) -> NDArray[np.float64]:
    occurs = counts.sum(axis=-1) > 0
    return _ratio(np.where(occurs, values, 0.0).sum(axis=-1), occurs.sum(axis=-1))[()]


def _macro_f1(counts: NDArray) -> NDArray[np.float64]:
    return _mean_over_reference_classes(_f1(counts), counts)


def _uar(counts: NDArray) -> NDArray[np.float64]:
    return _mean_over_reference_classes(_recall(counts), counts)


def _accuracy(counts: NDArray) -> NDArray[np.float64]:
    return _ratio(_correct(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))[()]


def _hard_eer(counts: NDArray) -> NDArray[np.float64]:
    correct, reference = _correct(counts), counts.sum(axis=-1)
    others = reference.sum(axis=-1, keepdims=True) - reference
    misses = _ratio(reference - correct, reference)
    false_alarms = _ratio(counts.sum(axis=-2) - correct, others)
    values = (misses + false_alarms) / 2
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))[()]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "macro_f1",
            "Macro-F1",
            "Mean of the per-class F1 = 2 TP / (2 TP + FP + FN), every class weighing the same, "
            "over the classes that occur in the reference; classes without reference utterances "
            "are left out.",
            _macro_f1,
        ),
        Metric(
            "micro_f1",
            "Micro-F1",
            "F1 of TP, FP and FN pooled over all classes; with one label an utterance it "
            "equals WA.",
            _accuracy,
        ),
        Metric(
            "uar",
            "UA",
            "Unweighted average recall (balanced accuracy): mean of the per-class recall, every "
            "class weighing the same, over the classes that occur in the reference.",
            _uar,
        ),
        Metric(
            "wa",
            "WA",
            "Weighted accuracy: share of utterances with the correct class, every utterance "
            "weighing the same.",
            _accuracy,
        ),
        # The "EER" of "Efficient fine-tuning approaches on HuBERT", Table 3: recomputing it from its
        # Tables 4 to 6 gives .07137, .16478 and .28707, printed as .0713, .164 and .2870.
        Metric(
            "hard_eer",
            "Hard EER",
            "Mean over classes of (FPR + FNR) / 2, each class against the rest, at the hard decision "
            "for the most probable class and not where FPR and FNR are equal; lower is better; "
            "classes without or with nothing but reference utterances are left out.",
            _hard_eer,
            lower_is_better=True,
        ),
        Metric(
            "recall",
            "Recall",
            "Per class: share of its reference utterances with the correct class; undefined (NaN) "
            "for a class without reference utterances.",
            _recall,
            class_axes=1,
        ),
        Metric(
            "precision",
            "Precision",
            "Per class: share of the utterances given the class that have it in the reference; "
            "undefined (NaN) for a class that no utterance is given.",
            _precision,
            class_axes=1,
        ),
        Metric(
            "f1",
            "F1",
            "Per class: 2 TP / (2 TP + FP + FN), the harmonic mean of its recall and precision; "
            "undefined (NaN) for a class in neither reference nor hypothesis.",
            _f1,
            class_axes=1,
        ),
        Metric(
            "confusion",
            "Confusion",
            "Per cell: number of utterances of the reference class (row) given the hypothesis "
            "class (column).",
            lambda counts: counts,
            class_axes=2,
        ),
    )
}
