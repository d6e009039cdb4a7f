"""PLDA: the densities are those of the joint Gaussian, and frequent classes get no bonus."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.utils.estimator_checks import parametrize_with_checks

from serflow import plda
from serflow.plda import PLDA
from serflow.priors import PriorShift

BETWEEN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.5]])
WITHIN = np.array([[1.0, -0.3, 0.2], [-0.3, 0.6, 0.0], [0.2, 0.0, 1.5]])
MEAN = np.array([5.0, -2.0, 0.0])


def draw(counts, seed=0):
    """Draw rows of classes with these counts from the model, and the labels."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    centres = rng.multivariate_normal(MEAN, BETWEEN, size=len(counts))
    return centres[y] + rng.multivariate_normal(np.zeros(3), WITHIN, size=len(y)), y


def log_joint(model, rows):
    """Log-density of rows of one class: one Gaussian over all of them, stacked."""
    n = len(rows)
    covariance = np.kron(np.ones((n, n)), model.between_) + np.kron(np.eye(n), model.within_)
    mean = np.tile(model.mean_, n)
    return multivariate_normal(mean, covariance, allow_singular=True).logpdf(rows.ravel())


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(plda).failed == 0


@parametrize_with_checks([PLDA(), PLDA(prior="empirical", shrinkage=0.1)])
def test_scikit_learn_accepts_the_classifier(estimator, check):
    check(estimator)


@given(st.lists(st.integers(1, 12), min_size=2, max_size=10), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_likelihood_never_falls_over_em(counts, seed):
    """A wrong update still converges, to something else."""
    x, y = draw([*counts, 5], seed)
    steps = np.diff(PLDA(tol=0, max_iter=30).fit(x, y).log_likelihoods_)
    assert (steps > -1e-8).all()


def test_the_likelihood_is_that_of_the_stacked_gaussian():
    x, y = draw([1, 4, 2, 5, 3])
    model = PLDA(max_iter=5).fit(x, y)
    expected = sum(log_joint(model, x[y == c]) for c in range(5))
    np.testing.assert_allclose(model.log_likelihoods_[-1], expected, rtol=1e-9)


def test_ratios_are_those_of_the_stacked_gaussian():
    """Same class or not, by the definition: p(x, class rows) / (p(x) p(class rows))."""
    x, y = draw([1, 4, 2, 5, 3])
    probes = draw([1, 1, 1, 1], seed=1)[0]
    model = PLDA().fit(x, y)
    expected = [
        [
            log_joint(model, np.vstack([x[y == c], probe]))
            - log_joint(model, x[y == c])
            - log_joint(model, probe[None])
            for c in range(5)
        ]
        for probe in probes
    ]
    np.testing.assert_allclose(model.log_likelihood_ratios(probes), expected, atol=1e-8)


def test_equal_classes_reach_the_maximum_known_in_closed_form():
    n = 6
    x, y = draw([n] * 200)
    model = PLDA(tol=1e-14, max_iter=5000).fit(x, y)
    means = x.reshape(200, n, 3).mean(axis=1)
    residual = x - means[y]
    within = residual.T @ residual / (200 * (n - 1))
    np.testing.assert_allclose(model.within_, within, atol=1e-6)
    np.testing.assert_allclose(
        model.between_, np.cov(means.T, bias=True) - within / n, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(model.mean_, x.mean(axis=0), atol=1e-8)


def test_both_covariances_are_recovered_from_many_unequal_classes():
    """Two rows of a class say little of its centre; counting its mean as exact inflates B."""
    counts = np.random.default_rng(1).integers(1, 8, size=4000)
    model = PLDA().fit(*draw(counts))
    np.testing.assert_allclose(model.between_, BETWEEN, atol=0.12)
    np.testing.assert_allclose(model.within_, WITHIN, atol=0.04)
    np.testing.assert_allclose(model.mean_, MEAN, atol=0.1)


def test_any_affine_map_of_the_features_leaves_the_ratios():
    x, y = draw([9, 4, 2, 7])
    mapped = x @ np.array([[3.0, 1.0, 0.0], [0.0, 0.2, 0.0], [5.0, 0.0, -1.0]]) + 7
    np.testing.assert_allclose(
        PLDA().fit(mapped, y).log_likelihood_ratios(mapped),
        PLDA().fit(x, y).log_likelihood_ratios(x),
        atol=1e-7,
    )


@pytest.mark.parametrize("counts", [[200] * 8, [3, 5, 8, 20, 40, 80, 100, 900]])
def test_eight_classes_in_fifteen_dimensions_leave_b_singular_and_nothing_breaks(counts):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), counts)
    x = rng.normal(size=(len(y), 15)) + 3 * rng.normal(size=(8, 15))[y]
    model = PLDA().fit(x, y)
    assert np.linalg.matrix_rank(model.between_, tol=1e-9) == 7
    assert (model.between_variance_ >= 0).all()
    assert np.isfinite(model.predict_log_proba(x)).all()
    assert model.score(x, y) > 0.99


def test_the_frequent_class_gets_no_bonus_unless_asked():
    """Training is half neutral, the evaluation uniform: the paper's reason to take PLDA."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [19_000, 1000])
    x = rng.normal(size=(20_000, 2)) + 2 * y[:, None]
    uniform, empirical = (PLDA(prior=prior).fit(x, y) for prior in ("uniform", "empirical"))
    np.testing.assert_allclose(uniform.predict_proba([[1.0, 1.0]]), [[0.5, 0.5]], atol=0.04)
    np.testing.assert_allclose(empirical.prior_, [0.95, 0.05])
    np.testing.assert_allclose(
        PriorShift(uniform.prior_, target=empirical.prior_).transform(uniform.predict_log_proba(x)),
        empirical.predict_log_proba(x),
        atol=1e-9,
    )


def test_a_singular_covariance_within_classes_is_refused_and_shrinkage_cures_it():
    """More features than rows, or a feature that repeats another."""
    x, y = draw([10, 10])
    repeated = np.c_[x, x[:, 0]]
    with pytest.raises(ValueError, match="singular: fewer rows than features"):
        PLDA().fit(repeated, y)
    assert np.isfinite(PLDA(shrinkage=0.1).fit(repeated, y).predict_log_proba(repeated)).all()


def test_two_fits_agree_to_the_last_bit():
    x, y = draw([10, 20, 5])
    first, second = (PLDA().fit(x, y).predict_log_proba(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"prior": "flat"}, "prior is 'flat'; expected uniform or empirical"),
        ({"shrinkage": -0.1}, "shrinkage is -0.1; expected 0 to 1"),
        ({"max_iter": 0}, "max_iter is 0; expected 1 or more"),
    ],
)
def test_a_wrong_parameter_is_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        PLDA(**parameters).fit(*draw([5, 5]))
