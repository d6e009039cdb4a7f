"""Whether systems differ: tests that are right for few utterances, and for many pairs at once."""

from __future__ import annotations

import doctest
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from serflow import significance
from serflow.intervals import paired_bootstrap
from serflow.significance import holm, mcnemar, paired_tests


def systems(only_a, only_b, both=20, neither=7):
    """Two systems that alone are right so many times."""
    a = np.repeat([0, 1, 0, 1], [only_a, only_b, both, neither])
    b = np.repeat([1, 0, 0, 1], [only_a, only_b, both, neither])
    return np.zeros_like(a), a, b


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(significance).failed == 0


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_exact_test_is_the_binomial_one_and_symmetric(only_a, only_b):
    found = mcnemar(*systems(only_a, only_b))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    if only_a + only_b:
        expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
        assert found.p == pytest.approx(expected, abs=1e-12)
    else:
        assert found.p == 1
    assert mcnemar(*systems(only_b, only_a)).p == found.p


@given(st.integers(0, 40), st.integers(0, 40))
def test_mid_p_counts_the_outcome_itself_half(only_a, only_b):
    fewer, either = sorted((only_a, only_b))[0], only_a + only_b
    chance = [comb(either, k) / 2**either for k in range(fewer + 1)]
    expected = 2 * (sum(chance[:-1]) + chance[-1] / 2)
    found = mcnemar(*systems(only_a, only_b), method="mid_p")
    assert found.p == pytest.approx(expected, abs=1e-12)
    assert 0 < found.p <= mcnemar(*systems(only_a, only_b)).p


def test_many_differences_give_what_chi_squared_gives():
    """The textbooks' statistic, which is an approximation of ours."""
    found = mcnemar(*systems(1100, 1000))
    statistic = (abs(1100 - 1000) - 1) ** 2 / 2100
    assert found.p == pytest.approx(stats.chi2.sf(statistic, 1), rel=0.01)


def test_what_both_have_right_or_wrong_says_nothing():
    assert mcnemar(*systems(8, 2, 0, 0)) == mcnemar(*systems(8, 2, 1000, 500))


def test_errors_that_differ_are_no_difference_in_accuracy():
    found = mcnemar([0, 0, 1], [1, 2, 1], [2, 1, 1])
    assert (found.only_a, found.only_b, found.p) == (0, 0, 1)


@pytest.mark.parametrize(
    ("a", "method", "message"),
    [
        ([0, 1, 1], "exact", r"reference has shape \(2,\) and hypothesis a \(3,\)"),
        ([0, 1], "chi2", "method is 'chi2'"),
    ],
)
def test_what_cannot_be_tested_is_named(a, method, message):
    with pytest.raises(ValueError, match=message):
        mcnemar([0, 1], a, [1, 1], method)


def test_a_known_adjustment():
    """R: p.adjust(c(0.01, 0.013, 0.014, 0.19, 0.35, 0.5), "holm")."""
    adjusted = holm([0.5, 0.013, 0.01, 0.35, 0.014, 0.19])
    np.testing.assert_allclose(adjusted, [0.7, 0.065, 0.06, 0.7, 0.065, 0.57])


def rejected(p, level):
    """Holm's procedure as he words it: from the smallest on, until one is not below its share."""
    found = set()
    for step, i in enumerate(np.argsort(p, kind="stable")):
        if p[i] > level / (len(p) - step):
            break
        found.add(int(i))
    return found


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_adjusted_values_are_rejected_as_the_procedure_says(p, level):
    adjusted = holm(p)
    # At a level that is no adjusted value, to a rounding.
    if np.abs(adjusted - level).min() > 1e-9:
        assert set(np.flatnonzero(adjusted <= level).tolist()) == rejected(np.array(p), level)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-15).all()


def test_a_test_that_was_not_done_does_not_count():
    adjusted = holm([0.02, np.nan, 0.03])
    np.testing.assert_allclose(adjusted, [0.04, np.nan, 0.04])
    assert holm([]).size == 0


def test_a_percentage_is_no_p_value():
    with pytest.raises(ValueError, match=r"p-values in \[0, 1\]"):
        holm([0.05, 5.0])


@pytest.fixture(scope="module")
def three():
    """The first is better than the other two, which are alike."""
    rng = np.random.default_rng(0)
    reference = rng.integers(4, size=400)

    def noisy(accuracy):
        guess = rng.integers(4, size=400)
        return np.where(rng.random(400) < accuracy, reference, guess)

    return reference, {"fused": noisy(0.8), "text": noisy(0.6), "speech": noisy(0.6)}


def every_pair(reference, hypotheses, *args, **options):
    return pd.DataFrame(
        {"system": a, "baseline": b}
        | paired_tests(reference, hypotheses[a], hypotheses[b], *args, **options)
        for a, b in combinations(hypotheses, 2)
    )


@pytest.mark.parametrize("clustered", [False, True])
def test_a_pair_has_its_bootstrap_and_mcnemar(three, clustered):
    reference, hypotheses = three
    options = {"seed": 3, "clusters": np.arange(400) % 20 if clustered else None, "resamples": 500}
    found = every_pair(reference, hypotheses, 4, "macro_f1", **options)
    assert len(found) == 3
    for row in found.itertuples():
        a, b = hypotheses[row.system], hypotheses[row.baseline]
        alone = paired_bootstrap(reference, a, b, 4, "macro_f1", **options)
        assert (row.difference, row.low, row.high, row.p, row.n) == (
            alone.difference, alone.low, alone.high, alone.p, 400,
        )  # fmt: skip
        test = mcnemar(reference, a, b)
        assert (row.only_system, row.only_baseline, row.mcnemar_p) == (
            test.only_a, test.only_b, test.p,
        )  # fmt: skip
    better = holm(found["mcnemar_p"]) < 0.05
    assert better.tolist() == [True, True, False]


def test_twenty_systems_that_only_guess_show_no_difference():
    """190 tests at 5% would find nine or ten of them better than another."""
    rng = np.random.default_rng(1)
    reference = rng.integers(3, size=300)
    guesses = {f"s{i}": rng.integers(3, size=300) for i in range(20)}
    found = every_pair(reference, guesses, 3, "wa", seed=0, resamples=200)
    assert len(found) == 190
    assert (found["mcnemar_p"] < 0.05).any()
    assert not (holm(found["mcnemar_p"]) < 0.05).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "recall"}, "'recall' is per class"),
        ({"metric": "F1"}, "unknown metric 'F1'"),
        ({"hypothesis_b": [0, 2]}, "hypothesis b holds 2"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_told_why(change, message):
    valid = {"reference": [0, 1], "hypothesis_a": [0, 1], "hypothesis_b": [0, 0], "metric": "wa"}
    with pytest.raises(ValueError, match=message):
        paired_tests(**{**valid, "n_classes": 2, "seed": 0, **change})
