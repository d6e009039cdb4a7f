"""Expected cost of the decisions that posteriors lead to.

References
----------
L. Ferrer, "Analysis and comparison of classification metrics", arXiv:2209.05355, 2022: the expected
cost, normalised by that of the best decision that does not look at the utterance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serflow.reliability.metric import ReliabilityMetric


def expected_cost(costs: ArrayLike) -> ReliabilityMetric:
    """Normalised expected cost under other costs than one for every error.

    Parameters
    ----------
    costs : array of float, shape (n_classes, n_decisions)
        What a decision (column) costs where the class (row) is true, at least 0. Decisions may be
        other than the classes: to abstain, say.

    Returns
    -------
    metric : ReliabilityMetric

    Raises
    ------
    ValueError
        If costs are negative or not finite.

    Examples
    --------
    >>> unnoticed_anger_is_worse = expected_cost([[0, 5], [1, 0]])
    >>> unnoticed_anger_is_worse(np.log([[0.3, 0.7], [0.1, 0.9], [0.6, 0.4]]), [0, 1, 1])
    0.5
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.ndim != 2 or not costs.size or not ((costs >= 0) & (costs < np.inf)).all():
        raise ValueError(
            f"costs of shape {costs.shape} must be finite and at least 0, a row a class and a "
            f"column a decision; got {costs.tolist()}"
        )
    return _cost_metric(costs, f"costs of class by decision: {costs.tolist()}")


def _cost_metric(costs: NDArray | None, how: str) -> ReliabilityMetric:
    def matrix(n_classes: int) -> NDArray[np.float64]:
        if costs is None:
            return 1.0 - np.eye(n_classes)
        if len(costs) != n_classes:
            raise ValueError(f"costs have {len(costs)} rows; expected one a class, {n_classes}")
        return costs

    def table(logs: NDArray, reference: NDArray) -> NDArray[np.float64]:
        by_class = matrix(logs.shape[1])
        # Equally dear decisions: the first, as of equal posteriors the first is the decision.
        decisions = logs.argmax(axis=1) if costs is None else (np.exp(logs) @ costs).argmin(axis=1)
        return np.column_stack([by_class[reference, decisions], np.eye(logs.shape[1])[reference]])

    def value(sums: NDArray, n: NDArray) -> NDArray[np.float64]:
        blind = (sums[..., 1:] @ matrix(sums.shape[-1] - 1)).min(axis=-1)
        return np.divide(sums[..., 0], blind, out=np.full(np.shape(n), np.nan), where=blind > 0)

    return ReliabilityMetric(
        "normalised_cost",
        "Normalised cost",
        f"Mean cost of the Bayes decisions from the posteriors ({how}), by that of the best single "
        "decision for all utterances, which knows only their class shares; above 1 the posteriors "
        "do harm; undefined (NaN) where that decision costs nothing.",
        lower_is_better=True,
        table=table,
        value=value,
    )


NORMALISED_COST = _cost_metric(None, "every error costs 1, so the most probable class")
