"""Multinomial logistic regression on the log-posteriors of several systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from serflow.fusion.stacks import (
    Stack,
    check_labels,
    check_stack,
    floored,
    mean_learnt,
    normalised,
)

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 2, 13))
INNER_FOLDS = 5


class LogisticRegressionFusion(BaseEstimator):
    """Multinomial logistic regression on the systems' log-posteriors side by side.

    Log-posteriors below log(1e-10) are raised to it first, as the regression needs finite features.
    It sees no other scaling, so its L2 penalty has the strength the paper states.

    Parameters
    ----------
    C : float or "cross_validated"
        Inverse strength of the L2 penalty on the coefficients, > 0, as in scikit-learn. 1.0 is a
        penalty of 1.0. "cross_validated": of 13 values from 1e-4 to 100, the one with the lowest
        negative log-likelihood in 5 stratified folds of the fit rows, which no group is split by.
    max_iter : int
        Newton steps at most.

    Attributes
    ----------
    regression_ : sklearn.linear_model.LogisticRegression
        Fitted on features of shape (n_utterances, n_systems * n_classes), system by system.
    C_ : float
        The value that was taken.
    n_systems_ : int
        Number of systems it was fitted on.

    References
    ----------
    H. Härm and T. Alumäe, "TalTech systems for the Odyssey 2024 emotion recognition challenge",
    section 3.3.1.

    Examples
    --------
    >>> speech = np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    >>> text = np.log([[0.7, 0.3], [0.6, 0.4], [0.3, 0.7], [0.3, 0.7]])
    >>> fusion = LogisticRegressionFusion().fit([speech, text], [0, 0, 1, 1])
    >>> fusion.predict_log_proba([speech, text]).argmax(axis=1)
    array([0, 0, 1, 1])
    """

    def __init__(self, C: float | Literal["cross_validated"] = 1.0, max_iter: int = 100):
        self.C = C
        self.max_iter = max_iter

    def fit(
        self, stack: Stack, y: ArrayLike, groups: ArrayLike | None = None
    ) -> LogisticRegressionFusion:
        """Fit the regression.

        Parameters
        ----------
        stack : array of float, shape (n_systems, n_utterances, n_classes)
            Log-posteriors.
        y : array of int, shape (n_utterances,)
            Reference class indices; every class must occur.
        groups : array of int or str, shape (n_utterances,), optional
            Speakers, say: all rows of one lie in the same inner fold.

        Returns
        -------
        self : LogisticRegressionFusion

        Raises
        ------
        ValueError
            If the stack holds no log-posteriors, `y` does not fit it, a class has no row in `y`, or
            there are too few rows of a class, or too few groups, for the inner folds.
        """
        logs = check_stack(stack).logs
        y = check_labels(y, logs)
        n_classes = logs.shape[-1]
        missing = np.setdiff1d(np.arange(n_classes), y)
        if missing.size:
            raise ValueError(
                f"no fit row has class {', '.join(map(str, missing))}: the regression cannot "
                "learn it; fit on rows that hold every class"
            )
        # One thread: the products are so small that threads slow them down, twentyfold where jobs
        # share the cores, and the last bits of the result would depend on the core count.
        with threadpool_limits(limits=1, user_api="blas"):
            self.C_ = (
                self._cross_validated(logs, y, groups) if self.C == "cross_validated" else self.C
            )
            self.regression_ = self._regression(self.C_).fit(_features(logs), y)
        self.n_systems_ = len(logs)
        return self

    def predict_log_proba(self, stack: Stack) -> NDArray[np.float64]:
        """Fuse the posteriors of the systems.

        Parameters
        ----------
        stack : array of float, shape (n_systems, n_utterances, n_classes)
            Log-posteriors, systems in the order of `fit`.

        Returns
        -------
        log_posteriors : ndarray of float64, shape (n_utterances, n_classes)

        Raises
        ------
        ValueError
            If the stack holds no log-posteriors, or other systems or classes than in `fit`.
        """
        check_is_fitted(self)
        logs = check_stack(stack, n_systems=self.n_systems_).logs
        scores = self.regression_.decision_function(_features(logs))
        if scores.ndim == 1:  # two classes: only the log-odds of the second
            scores = np.column_stack([np.zeros_like(scores), scores])
        # scikit-learn's own predict_log_proba takes the logarithm of a probability that may have
        # become 0.
        return normalised(scores)

    def learnt(self) -> dict[str, Any]:
        """Coefficients and penalty, as JSON."""
        return {
            "coef": self.regression_.coef_.tolist(),
            "intercept": self.regression_.intercept_.tolist(),
            "C": self.C_,
        }

    @classmethod
    def from_learnt(cls, fits: Sequence[Mapping[str, Any]], n_systems: int) -> Self:
        """A regression with the mean coefficients and intercepts of one or several fits.

        Parameters
        ----------
        fits : sequence of mapping
            What `learnt()` gave, also after a way through JSON.
        n_systems : int

        Returns
        -------
        fusion : LogisticRegressionFusion
            Predicts what the original predicts, bit for bit, where there is one fit.

        Raises
        ------
        ValueError
            If there is no fit, or one of another number of systems or classes.
        """
        n_rows = len(fits[0]["intercept"]) if fits else 0
        n_classes = max(n_rows, 2)  # of two classes only the second has coefficients
        fusion = cls()
        fusion.regression_ = regression = LogisticRegression()
        regression.coef_ = mean_learnt(fits, "coef", n_systems * n_classes)
        regression.intercept_ = mean_learnt(fits, "intercept", n_rows)
        regression.classes_ = np.arange(n_classes)
        regression.n_features_in_ = n_systems * n_classes
        fusion.n_systems_ = n_systems
        return fusion

    def prior(self, priors: NDArray, fit_shares: NDArray) -> NDArray[np.float64]:
        """Class prior that fused posteriors express: a discriminative fit takes on its rows'."""
        return fit_shares

    def _regression(self, C: float = 1.0) -> LogisticRegression:
        # Log-posteriors of several systems are so much alike that L-BFGS, scikit-learn's own choice,
        # stops far from the optimum after hundreds of steps. This is there after a few.
        return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-8, max_iter=self.max_iter)

    def _cross_validated(self, logs: NDArray, y: NDArray, groups: ArrayLike | None) -> float:
        splits = _inner_splits(y, groups, logs.shape[-1])
        search = GridSearchCV(
            self._regression(),
            {"C": STRENGTHS},
            scoring="neg_log_loss",
            cv=splits,
            refit=False,
            error_score="raise",
        )
        return float(search.fit(_features(logs), y).best_params_["C"])


def _inner_splits(
    y: NDArray, groups: ArrayLike | None, n_classes: int
) -> list[tuple[NDArray, NDArray]]:
    rows = np.zeros(len(y))
    if groups is None:
        splits = list(StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=0).split(rows, y))
    else:
        n_folds = min(INNER_FOLDS, len(np.unique(groups)))
        if n_folds < 2:
            raise ValueError("the rows that C is chosen on are of one group; give C a number")
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
        splits = list(folds.split(rows, y, np.asarray(groups)))
    for fitted, scored in splits:
        for part in (fitted, scored):
            lost = np.setdiff1d(np.arange(n_classes), y[part])
            if lost.size:
                raise ValueError(
                    f"an inner fold for C has no row of class {', '.join(map(str, lost))}; give C "
                    "a number, such as the paper's 1.0"
                )
    return splits


def _features(logs: NDArray) -> NDArray[np.float64]:
    return np.concatenate(floored(logs), axis=1)
