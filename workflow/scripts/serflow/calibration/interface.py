"""What all calibrations share: checked rows in, log-posteriors out, and a record of what was learnt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from serflow.log_posteriors import LOG_FLOOR, SUM_TOLERANCE
from serflow.metrics import class_indices


@dataclass(frozen=True)
class Rows:
    """Rows to fit a calibration on, those of weight 0 left out.

    Parameters
    ----------
    logs : ndarray of float64, shape (n_utterances, n_classes)
        Log-posteriors, those below log(1e-10) raised to it.
    y : ndarray of int64, shape (n_utterances,)
        Reference class indices.
    weights : ndarray of float64, shape (n_utterances,)
        Positive; their sum is 1.
    """

    logs: NDArray[np.float64]
    y: NDArray[np.int64]
    weights: NDArray[np.float64]


class Calibration(BaseEstimator, ABC):
    """A map of log-posteriors to calibrated ones.

    Log-posteriors below log(1e-10) are raised to it first, in `fit` and in `predict_log_proba`: a
    single 0 for the reference class would otherwise be an infinite loss that no map can mend.

    Attributes
    ----------
    keeps_prior : bool
        Whether the calibrated posteriors still express the class prior of the ones they were made
        of; otherwise they take on the class shares of the rows of `fit`.
    n_classes_ : int
        Number of classes it was fitted on.
    """

    keeps_prior: ClassVar[bool] = False
    needs_every_class: ClassVar[bool] = True
    _learns: ClassVar[tuple[str, ...]]

    def fit(
        self, log_posteriors: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn the map that makes the references most likely.

        Parameters
        ----------
        log_posteriors : array of float, shape (n_utterances, n_classes)
            Natural logarithms, -inf allowed; at least two classes.
        y : array of int, shape (n_utterances,)
            Reference class indices.
        sample_weight : array of float, shape (n_utterances,), optional
            Weight of each row, at least 0. Only their ratios matter.

        Returns
        -------
        self : Calibration

        Raises
        ------
        ValueError
            If rows are no log-posteriors, shapes differ, weights are negative or all 0, there are
            fewer rows than the map has free parameters, or a class that it needs has no row.
        """
        rows = self._rows(log_posteriors, y, sample_weight)
        self.n_classes_ = rows.logs.shape[1]
        self._learn(rows)
        return self

    def predict_log_proba(self, log_posteriors: ArrayLike) -> NDArray[np.float64]:
        """Calibrate log-posteriors.

        Parameters
        ----------
        log_posteriors : array of float, shape (n_utterances, n_classes)
            Natural logarithms, -inf allowed.

        Returns
        -------
        calibrated : ndarray of float64, shape (n_utterances, n_classes)
            Natural logarithms, finite, each row's logsumexp 0.

        Raises
        ------
        ValueError
            If rows are no log-posteriors, or have another number of classes than in `fit`.
        """
        check_is_fitted(self)
        logs = checked_log_posteriors(log_posteriors)
        if logs.shape[1] != self.n_classes_:
            raise ValueError(
                f"log-posteriors have {logs.shape[1]} classes; the calibration was fitted on "
                f"{self.n_classes_}"
            )
        return log_softmax(self._scores(np.maximum(logs, LOG_FLOOR)), axis=1)

    def learnt(self) -> dict[str, Any]:
        """What was learnt, as JSON can hold it; `serflow.calibration.restore` takes it back."""
        check_is_fitted(self)
        values = {name: getattr(self, name) for name in self._names()}
        return {
            name.removesuffix("_"): value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }

    def set_learnt(self, learnt: Mapping[str, Any]) -> Self:
        """Take over what another calibration of this kind learnt."""
        names = {name.removesuffix("_"): name for name in self._names()}
        if set(learnt) != set(names):
            raise ValueError(
                f"{type(self).__name__} learns {', '.join(names)}; got {', '.join(learnt)}"
            )
        for key, name in names.items():
            value = learnt[key]
            setattr(self, name, np.array(value) if isinstance(value, list) else value)
        return self

    @classmethod
    def mean_of(cls, fitted: Sequence[Self]) -> Self:
        """One calibration from several that were fitted on other rows, as cross-fitted ones are.

        Its scales and biases are the means of theirs, so that its posteriors are the geometric mean
        of theirs, normalised. A single one comes back as it is.

        Raises
        ------
        ValueError
            If there is none, or they have other numbers of classes.
        """
        classes = sorted({one.n_classes_ for one in fitted})
        if len(classes) != 1:
            raise ValueError(f"calibrations of {classes} classes have no mean; expected one number")
        if len(fitted) == 1:
            return fitted[0]
        mean = cls()
        mean.n_classes_ = classes[0]
        mean._take_mean(fitted)
        return mean

    def _take_mean(self, fitted: Sequence[Self]) -> None:
        """Set what is learnt to the mean of what others learnt."""
        for name in self._learns:
            values = [getattr(one, name) for one in fitted]
            known = isinstance(values[0], bool)
            setattr(self, name, any(values) if known else np.mean(values, axis=0))

    @abstractmethod
    def _learn(self, rows: Rows) -> None:
        """Set what is learnt."""

    @abstractmethod
    def _scores(self, logs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map floored log-posteriors to logarithms that are yet to be normalised."""

    @abstractmethod
    def _free(self, n_classes: int) -> int:
        """How many parameters the rows determine."""

    def _names(self) -> tuple[str, ...]:
        return ("n_classes_", *self._learns)

    def _rows(self, log_posteriors: ArrayLike, y: ArrayLike, weight: ArrayLike | None) -> Rows:
        logs = checked_log_posteriors(log_posteriors)
        n, n_classes = logs.shape
        y = class_indices(y, n_classes, "y")
        weight = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
        for values, name in ((y, "y"), (weight, "sample_weight")):
            if values.shape != (n,):
                raise ValueError(
                    f"{name} has shape {values.shape}; expected ({n},) as the log-posteriors "
                    "have rows"
                )
        if not ((weight >= 0) & (weight < np.inf)).all() or not weight.any():
            raise ValueError(
                "sample_weight must hold finite weights of at least 0, not all of them 0"
            )
        used = weight > 0
        logs, y, weight = logs[used], y[used], weight[used]
        free = self._free(n_classes)
        if len(y) < free:
            raise ValueError(
                f"{len(y)} rows to fit on, but {type(self).__name__} learns {free} numbers for "
                f"{n_classes} classes; fit on more rows or take a simpler calibration"
            )
        missing = np.setdiff1d(np.arange(n_classes), y)
        if self.needs_every_class and missing.size:
            raise ValueError(
                f"no fit row has class {', '.join(map(str, missing))}: {type(self).__name__} "
                "cannot learn it; fit on rows that hold every class, or take TemperatureScaling"
            )
        return Rows(np.maximum(logs, LOG_FLOOR), y, weight / weight.sum())


def checked_log_posteriors(log_posteriors: ArrayLike) -> NDArray[np.float64]:
    """Check that rows are log-posteriors.

    Parameters
    ----------
    log_posteriors : array of float, shape (n_utterances, n_classes)
        Natural logarithms, -inf allowed.

    Returns
    -------
    log_posteriors : ndarray of float64, same shape

    Raises
    ------
    ValueError
        If there are no utterances or fewer than two classes, or a row's probabilities do not sum to
        1 within 1e-6.
    """
    logs = np.asarray(log_posteriors, dtype=np.float64)
    if logs.ndim != 2 or logs.shape[0] < 1 or logs.shape[1] < 2:
        raise ValueError(
            f"log-posteriors have shape {logs.shape}; expected (n_utterances, n_classes), at least "
            "one utterance and two classes"
        )
    wrong = ~(np.abs(logsumexp(logs, axis=1)) <= SUM_TOLERANCE)  # NaN compares false
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"row {row} holds no log-posteriors: its probabilities sum to "
            f"{np.exp(logs[row]).sum():.6g}, expected 1"
        )
    return logs
