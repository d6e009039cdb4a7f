"""Intervals over folds and seeds: of the printed mean, and no narrower than chance makes them."""

from __future__ import annotations

import doctest
from itertools import product

import numpy as np
import pytest

from serflow import fold_intervals, resampling
from serflow.fold_intervals import fold_mean_interval, mean_interval, wald_half_width
from serflow.metrics import METRICS


@pytest.fixture(scope="module")
def counts():
    """Five folds of four classes, the last class missing from one of them."""
    counts = np.random.default_rng(0).integers(1, 12, size=(5, 4, 4)) + 15 * np.eye(4, dtype=int)
    counts[2, 3] = 0
    return counts


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(fold_intervals).failed == 0
    assert doctest.testmod(resampling).failed == 0


@pytest.mark.parametrize("metric", ["macro_f1", "uar", "recall", "confusion"])
def test_the_value_is_the_mean_of_the_folds_own_values(counts, metric):
    """Pooled counts give another number under the same name."""
    found = fold_mean_interval(counts, metric, seed=0, resamples=50)
    np.testing.assert_allclose(found.value, np.nanmean(METRICS[metric](counts), axis=0))
    assert found.n == 5
    pooled = METRICS["macro_f1"](counts.sum(axis=0))
    assert fold_mean_interval(counts, "macro_f1", seed=0, resamples=50).value != pooled


def test_the_ends_are_those_of_all_ways_to_draw_the_folds():
    values = np.array([0.5, 0.55, 0.63, 0.7])
    means = [np.mean(drawn) for drawn in product(values, repeat=4)]
    found = mean_interval(values, seed=0, resamples=50_000)
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(means, [0.025, 0.975]), atol=0.003
    )


def test_a_fold_that_lacks_a_class_does_not_count_for_it(counts):
    recall = METRICS["recall"](counts)
    assert np.isnan(recall[2, 3])
    whole = fold_mean_interval(counts, "recall", seed=0)
    others = mean_interval(np.delete(recall[:, 3], 2), seed=1)
    assert whole.value[3] == pytest.approx(others.value)
    np.testing.assert_allclose([whole.low[3], whole.high[3]], [others.low, others.high], atol=0.02)


def test_a_class_that_no_fold_has_is_undefined():
    found = mean_interval([[0.5, np.nan], [0.7, np.nan]], seed=0, resamples=50)
    np.testing.assert_allclose(found.value, [0.6, np.nan])
    np.testing.assert_allclose([found.low, found.high], [[0.5, np.nan], [0.7, np.nan]])


def test_folds_that_differ_are_told_apart_from_folds_that_do_not():
    alike = mean_interval([0.6] * 5, seed=0)
    assert (alike.value, alike.low, alike.high) == pytest.approx((0.6, 0.6, 0.6))
    apart = mean_interval([0.2, 0.4, 0.6, 0.8, 1.0], seed=0)
    assert apart.low < 0.45
    assert apart.high > 0.75


def test_same_seed_same_interval(counts):
    once, again, other = (
        fold_mean_interval(counts, "uar", seed=s, resamples=50) for s in (1, 1, 2)
    )
    assert once == again != other


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([0.6], seed=0), "at least two folds"),
        (lambda: mean_interval(0.6, seed=0), "at least two folds"),
        (lambda: mean_interval([0.6, 0.7], seed=0, level=95), "level is 95"),
        (lambda: mean_interval([0.6, 0.7], seed=0, resamples=0), "resamples is 0"),
        (lambda: fold_mean_interval(np.ones((2, 3, 3)), "F1", seed=0), "unknown metric 'F1'"),
        (lambda: fold_mean_interval(np.ones((3, 3)), "uar", seed=0), r"shape \(3, 3\); expected"),
        (lambda: wald_half_width(58.1, 750), "score is 58.1"),
        (lambda: wald_half_width(0.5, 0), "n 0"),
        (lambda: wald_half_width(0.5, 10, 95), "level 95"),
    ],
)
def test_what_has_no_interval_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# THAU-UPM, EmoSPeech 2024, Table 3: macro-F1 and what follows the ±, of 750 utterances.
TABLE_3 = {
    0.5814: 0.0352,
    0.6094: 0.0349,
    0.8248: 0.0272,
    0.8072: 0.0282,
    0.7904: 0.0291,
    0.5134: 0.0359,
}


@pytest.mark.parametrize(("score", "printed"), TABLE_3.items())
def test_walds_half_width_is_what_one_paper_prints(score, printed):
    """Two of the six are one unit off in the last digit."""
    assert wald_half_width(score, 750) == pytest.approx(printed, abs=1.5e-4)
