"""Whether systems differ: McNemar's test, the tests of a pair, and Holm's correction for many tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from serflow.intervals import paired_bootstrap
from serflow.metrics import METRICS


@dataclass(frozen=True)
class McNemar:
    """Utterances on which two systems differ in being right, and what they say.

    Parameters
    ----------
    only_a, only_b : int
        Utterances that one of them has right and the other wrong.
    p : float
        Two-sided p-value of an equal accuracy, in (0, 1].
    """

    only_a: int
    only_b: int
    p: float


def mcnemar(
    reference: ArrayLike,
    hypothesis_a: ArrayLike,
    hypothesis_b: ArrayLike,
    method: Literal["exact", "mid_p"] = "exact",
) -> McNemar:
    r"""McNemar's test of equal accuracy of two systems on the same utterances.

    Of :math:`d = a + b` utterances that one system alone has right, either should have its half by
    chance. Both p-values come from the binomial distribution, :math:`X \sim B(d, 1/2)`, at any d;
    there is no approximation by :math:`\chi^2` and thus no continuity correction:

    .. math:: p_{exact} = \min(1,\; 2 P(X \le \min(a, b))), \qquad
              p_{mid} = 2 P(X \le \min(a, b)) - P(X = \min(a, b))

    The exact one is never too small, and rather large for few differences; mid-p is close to the
    nominal level, and seldom a little below. The test is about accuracy (WA), whatever metric the
    systems are ranked by, and takes utterances for independent: of few speakers it is too sure.

    Parameters
    ----------
    reference, hypothesis_a, hypothesis_b : array, shape (n_utterances,)
        Classes, the same utterances in the same order.
    method : {"exact", "mid_p"}

    Returns
    -------
    test : McNemar
        p is 1 where there is no difference.

    Raises
    ------
    ValueError
        If lengths differ or the method is unknown.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12(2), 1947.
    M. Fagerland, S. Lydersen and P. Laake, "The McNemar test for binary matched-pairs data: mid-p
    and asymptotic are better than exact conditional", BMC Medical Research Methodology 13, 2013.

    Examples
    --------
    >>> reference = [0] * 50
    >>> test = mcnemar(reference, [0] * 48 + [1] * 2, [0] * 40 + [1] * 10)
    >>> print(f"{test.only_a} against {test.only_b}, p = {test.p:.4f}")
    8 against 0, p = 0.0078
    """
    if method not in ("exact", "mid_p"):
        raise ValueError(f'method is {method!r}; expected "exact" or "mid_p"')
    reference, a, b = (np.asarray(x) for x in (reference, hypothesis_a, hypothesis_b))
    for name, labels in (("hypothesis a", a), ("hypothesis b", b)):
        if reference.ndim != 1 or labels.shape != reference.shape:
            raise ValueError(
                f"reference has shape {reference.shape} and {name} {labels.shape}; expected "
                "(n_utterances,) of both"
            )
    only_a = int(((a == reference) & (b != reference)).sum())
    only_b = int(((b == reference) & (a != reference)).sum())
    fewer, either = min(only_a, only_b), only_a + only_b
    p = 2 * binom.cdf(fewer, either, 0.5)
    if method == "mid_p":
        p -= binom.pmf(fewer, either, 0.5)
    return McNemar(only_a, only_b, float(min(1.0, p)))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """P-values adjusted for their number by Holm's step-down procedure.

    All that are below 5% after adjustment may be rejected together: the chance of a single false
    rejection among them is at most 5%, however the tests depend on each other.

    Parameters
    ----------
    p : array of float, shape (n_tests,)
        In [0, 1]; NaN for a test that was not done, which does not count.

    Returns
    -------
    adjusted : ndarray of float64, shape (n_tests,)
        Never below `p`, at most 1.

    Raises
    ------
    ValueError
        If a p-value lies outside [0, 1], or there is more than one dimension.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6(2), 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03, 0.02]).round(2)
    array([0.04, 0.06, 0.06, 0.06])
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or (p < 0).any() or (p > 1).any():
        raise ValueError(f"expected p-values in [0, 1], shape (n_tests,); got {p.tolist()}")
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN is sorted to the end
    factor = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factor * p[order]))
    return adjusted


def paired_tests(
    reference: ArrayLike,
    hypothesis_a: ArrayLike,
    hypothesis_b: ArrayLike,
    n_classes: int,
    metric: str,
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
) -> dict[str, float | int]:
    """Two systems compared on the same utterances, by the paired bootstrap and McNemar's test.

    Parameters
    ----------
    reference, hypothesis_a, hypothesis_b : array of int, shape (n_utterances,)
        Class indices in [0, n_classes), the same utterances in the same order.
    n_classes : int
    metric : str
        Key in `serflow.metrics.METRICS`, one number for all classes.
    seed, clusters, resamples, level
        As in `serflow.intervals.bootstrap_interval`. McNemar's test knows no clusters.

    Returns
    -------
    tests : dict
        By the names of `serflow.tables.COMPARISONS`: difference of the metric (a minus b), low and
        high, and p of the paired bootstrap; only_system and only_baseline, the utterances that a
        or b alone has right, and mcnemar_p, exact; n. No p-value is adjusted: see `holm`.

    Raises
    ------
    ValueError
        As `serflow.intervals.paired_bootstrap`; if the metric is per class.

    Examples
    --------
    >>> reference = [0] * 50 + [1] * 50
    >>> fused, text = [0] * 55 + [1] * 45, [0] * 70 + [1] * 30
    >>> found = paired_tests(reference, fused, text, 2, "uar", seed=0)
    >>> print(f"{found['difference']:.2f}, {found['only_system']} against {found['only_baseline']}")
    0.15, 15 against 0
    """
    if metric in METRICS and METRICS[metric].class_axes:
        raise ValueError(f"metric {metric!r} is per class; expected one number, such as 'macro_f1'")
    found = paired_bootstrap(
        reference, hypothesis_a, hypothesis_b, n_classes, metric,
        seed=seed, clusters=clusters, resamples=resamples, level=level,
    )  # fmt: skip
    test = mcnemar(reference, hypothesis_a, hypothesis_b)
    return {
        "difference": float(found.difference),
        "low": float(found.low),
        "high": float(found.high),
        "p": float(found.p),
        "only_system": test.only_a,
        "only_baseline": test.only_b,
        "mcnemar_p": test.p,
        "n": found.n,
    }
