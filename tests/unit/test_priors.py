"""Priors: a model that saw mostly neutral speech must not keep saying neutral where it is rare."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.base import clone

from serflow import priors, training_prior
from serflow.priors import PriorShift
from serflow.training_prior import effective_prior, empirical_prior


@st.composite
def shifts(draw):
    """Draw log-posteriors and two priors over the same classes."""
    n_classes = draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    train, target = rng.dirichlet(np.ones(n_classes), size=2) * 0.9 + 0.1 / n_classes
    return np.log(rng.dirichlet(np.ones(n_classes), size=7)), train, target


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(priors).failed == 0
    assert doctest.testmod(training_prior).failed == 0


@given(shifts())
@settings(max_examples=50)
def test_shift_to_the_training_prior_changes_nothing(case):
    log_posteriors, train, _ = case
    np.testing.assert_allclose(
        PriorShift(train, target=train).transform(log_posteriors), log_posteriors, atol=1e-9
    )


@given(shifts())
@settings(max_examples=50)
def test_shift_there_and_back_changes_nothing(case):
    log_posteriors, train, target = case
    there = PriorShift(train, target).transform(log_posteriors)
    np.testing.assert_allclose(logsumexp(there, axis=1), 0, atol=1e-9)
    back = PriorShift(target, train).transform(there)
    np.testing.assert_allclose(back, log_posteriors, atol=1e-9)


@given(shifts(), st.randoms())
@settings(max_examples=50)
def test_class_order_does_not_matter(case, random):
    log_posteriors, train, target = case
    order = random.sample(range(len(train)), len(train))
    np.testing.assert_allclose(
        PriorShift(train[order], target[order]).transform(log_posteriors[:, order]),
        PriorShift(train, target).transform(log_posteriors)[:, order],
        atol=1e-9,
    )


def test_shift_recovers_the_posteriors_of_a_model_trained_on_the_target_prior():
    """The formula upside down (train / target) would pass the round trips above."""
    likelihood = np.array([[0.7, 0.2, 0.4]])  # p(x | y)
    train, target = np.array([0.8, 0.1, 0.1]), np.array([0.2, 0.3, 0.5])
    trained = likelihood * train / (likelihood * train).sum()
    expected = likelihood * target / (likelihood * target).sum()
    shifted = PriorShift(train, target).transform(np.log(trained))
    np.testing.assert_allclose(np.exp(shifted), expected, atol=1e-12)


def test_an_impossible_class_stays_impossible_and_makes_no_nan():
    """A confident model writes -inf; a class missing from a training fold has prior 0."""
    with np.errstate(divide="ignore"):
        log_posteriors = np.log([[0.0, 1.0, 0.0], [0.5, 0.4, 0.1]])
    shifted = PriorShift([0.5, 0.5, 0.0], target=[0.2, 0.8, 0.0]).transform(log_posteriors)
    np.testing.assert_array_equal(np.isneginf(shifted), [[True, False, True], [False, False, True]])
    np.testing.assert_allclose(logsumexp(shifted, axis=1), 0, atol=1e-12)


def test_very_confident_posteriors_do_not_overflow():
    shifted = PriorShift([0.999999, 0.000001]).transform([[0.0, -2000.0]])
    np.testing.assert_allclose(shifted, [[0.0, -2000.0 + np.log(999999)]], rtol=1e-9)


@pytest.mark.parametrize(
    ("train", "target", "message"),
    [
        ([0.5, 0.5, 0.0], "uniform", "class 2 has train prior 0 but target 0.3333"),
        ([0.5, 0.4], "uniform", "train_prior sums to 0.9; expected 1"),
        ([0.5, 0.5], [1.5, -0.5], "target must hold probabilities >= 0"),
        ([0.5, np.nan], "uniform", "train_prior must hold probabilities"),
        ([0.5, 0.5], [0.2, 0.3, 0.5], "target has 3 classes, train_prior has 2"),
        ([0.5, 0.5], "flat", "target is 'flat'; expected \"uniform\""),
        ([0.2, 0.3, 0.5], "uniform", r"shape \(2, 2\); expected \(n_utterances, 3\)"),
        ([0.5, 0.5], [1.0, 0.0], "row 1 gives all its probability to classes whose target"),
    ],
)
def test_a_wrong_prior_is_named(train, target, message):
    log_posteriors = [[np.log(0.5), np.log(0.5)], [-np.inf, 0.0]]
    with pytest.raises(ValueError, match=message):
        PriorShift(train, target).fit().transform(log_posteriors)


def test_a_nan_posterior_is_refused_with_its_row():
    with pytest.raises(ValueError, match="first in row 1"):
        PriorShift([0.5, 0.5]).transform([[0.0, -np.inf], [np.nan, 0.0]])


def test_prior_shift_can_be_cloned():
    assert clone(PriorShift([0.9, 0.1], target="uniform")).get_params() == {
        "train_prior": [0.9, 0.1],
        "target": "uniform",
    }


SKEWED = np.repeat([0, 1, 2], [60, 30, 10])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.6, 0.3, 0.1, 0]),
        ({"class_weight": [1, 2, 6, 9]}, [1 / 3, 1 / 3, 1 / 3, 0]),
        ({"class_weight": "balanced"}, [1 / 3, 1 / 3, 1 / 3, 0]),
        ({"balanced_sampling": True}, [1 / 3, 1 / 3, 1 / 3, 0]),
        # Balanced twice: the rarest class is now the most frequent, and rebalancing has to know.
        ({"balanced_sampling": True, "class_weight": "balanced"}, [1 / 9, 2 / 9, 6 / 9, 0]),
    ],
)
def test_effective_prior_counts_weights_and_sampling(options, expected):
    """Dividing by the label frequencies after class-weighted training corrects twice."""
    np.testing.assert_allclose(effective_prior(SKEWED, 4, **options), expected, atol=1e-12)


def test_effective_prior_without_weights_is_the_empirical_prior():
    np.testing.assert_array_equal(effective_prior(SKEWED, 4), empirical_prior(SKEWED, 4))


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 5], {}, r"label 5 in row 1 is not a class index in \[0, 3\)"),
        ([0, -1], {}, "label -1 in row 1"),
        ([], {}, "at least one"),
        ([0.0, 1.0], {}, "expected integer class indices"),
        ([0, 1], {"class_weight": [1.0, 1.0]}, r"class_weight has shape \(2,\); expected \(3,\)"),
        ([0, 1], {"class_weight": [1.0, -1.0, 1.0]}, "finite and >= 0"),
        ([0, 1], {"class_weight": [0.0, 0.0, 1.0]}, "nothing is trained"),
        ([0, 1], {"class_weight": "balance"}, "class_weight is 'balance'"),
    ],
)
def test_wrong_labels_and_weights_are_named(labels, options, message):
    with pytest.raises(ValueError, match=message):
        effective_prior(labels, 3, **options)
