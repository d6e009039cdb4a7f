"""How well predicted attributes agree with the raters': the concordance correlation coefficient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serflow.intervals import Interval
from serflow.resampling import bootstrap_sums, percentiles

DEFINITIONS = {
    "ccc": "Concordance correlation coefficient of one attribute: twice the covariance of reference "
    "and prediction over the sum of both variances and the squared difference of the means; "
    "population variances (divided by n).",
    "mean_ccc": "Mean of the attributes' concordance correlation coefficients (population variances), "
    "every attribute weighing the same.",
}
TITLES = {"ccc": "CCC", "mean_ccc": "Mean CCC"}

# Columns of the sums that a coefficient needs: of x, y, their squares and their product.
SUMS = 5


def concordance(reference: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    r"""Concordance correlation coefficient of each attribute.

    .. math:: \rho_c = \frac{2\,\mathrm{cov}(x, y)}
              {\mathrm{var}(x) + \mathrm{var}(y) + (\bar x - \bar y)^2}

    with population variances, as the challenges score it.

    Parameters
    ----------
    reference, prediction : array of float, shape (n_utterances, n_attributes)
        On the same scale, without missing values.

    Returns
    -------
    ndarray of float64, shape (n_attributes,)
        In [-1, 1]; NaN where both are constant and equal.

    Raises
    ------
    ValueError
        If shapes differ, a value is missing or infinite, or there are no utterances.

    References
    ----------
    L. I.-K. Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45,
    1989.
    L. Goncalves et al., "Odyssey 2024 speech emotion recognition challenge", 2024, section 2.2.

    Examples
    --------
    >>> float(concordance([[1.0], [2.0], [3.0]], [[2.0], [3.0], [4.0]])[0].round(4))
    0.5714
    """
    table = _sums(*_checked(reference, prediction))
    return _from_sums(table.sum(axis=0), len(table))


def concordance_intervals(
    reference: ArrayLike,
    prediction: ArrayLike,
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[Interval, Interval]:
    """Percentile bootstrap intervals: of each attribute's coefficient, and of their mean.

    Parameters
    ----------
    reference, prediction : array of float, shape (n_utterances, n_attributes)
        As in `concordance`.
    seed, clusters, resamples, level
        As in `serflow.intervals.bootstrap_interval`.

    Returns
    -------
    each : Interval
        Arrays of shape (n_attributes,).
    mean : Interval
        Of all attributes together.
    """
    x, y = _checked(reference, prediction)
    table = np.column_stack([np.ones(len(x)), _sums(x, y)])
    drawn = bootstrap_sums(table, seed=seed, clusters=clusters, resamples=resamples)
    values = _from_sums(table.sum(axis=0)[1:], len(x))
    resampled = _from_sums(drawn[:, 1:], drawn[:, :1])
    low, high = percentiles(resampled, level)
    mean_low, mean_high = percentiles(resampled.mean(axis=1), level)
    each = Interval(value=values, low=low, high=high, n=len(x))
    return each, Interval(value=values.mean(), low=mean_low, high=mean_high, n=len(x))


def _checked(
    reference: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = (np.asarray(values, dtype=np.float64) for values in (reference, prediction))
    if x.ndim != 2 or x.shape != y.shape or not len(x):
        raise ValueError(
            f"reference has shape {x.shape} and prediction {y.shape}; expected "
            "(n_utterances, n_attributes) of both, and at least one utterance"
        )
    for name, values in (("reference", x), ("prediction", y)):
        if not np.isfinite(values).all():
            row = int((~np.isfinite(values)).any(axis=1).argmax())
            raise ValueError(f"{name} is missing or infinite in row {row}: {values[row].tolist()}")
    return x, y


def _sums(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """What adds up over utterances, shape (n_utterances, 5 * n_attributes)."""
    # Differences of large sums lose digits: values are taken from the middle of the reference.
    middle = x.mean(axis=0)
    x, y = x - middle, y - middle
    return np.concatenate([x, y, x * x, y * y, x * y], axis=1)


def _from_sums(sums: NDArray[np.float64], n: int | NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients (..., n_attributes) from sums (..., 5 * n_attributes) over n utterances."""
    x, y, xx, yy, xy = np.split(sums / n, SUMS, axis=-1)
    top = 2 * (xy - x * y)
    bottom = (xx - x * x) + (yy - y * y) + (x - y) ** 2
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
