"""Calibration: known distortions are undone, calibrated posteriors stay, and bad rows are refused."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from serflow import calibration
from serflow.calibration import (
    METHODS,
    IsotonicOneVsRest,
    MatrixScaling,
    TemperatureScaling,
    VectorScaling,
    isotonic,
    matrix,
    restore,
    scaling,
)
from serflow.log_posteriors import LOG_FLOOR

CALIBRATIONS = [
    TemperatureScaling(),
    VectorScaling(),
    VectorScaling(scale="class"),
    MatrixScaling(),
    IsotonicOneVsRest(),
]
EVERY = pytest.mark.parametrize("unfitted", CALIBRATIONS, ids=str)
NEEDS_CLASSES = pytest.mark.parametrize("unfitted", CALIBRATIONS[1:], ids=str)


def simulated(n=20_000, n_classes=4, seed=0, scale=1.0):
    """Posteriors, and labels drawn from them, or from them with a scale for each class."""
    rng = np.random.default_rng(seed)
    log_posteriors = log_softmax(1.5 * rng.normal(size=(n, n_classes)), axis=1)
    chances = softmax(scale * log_posteriors, axis=1).cumsum(axis=1)
    return log_posteriors, (rng.random((n, 1)) > chances[:, :-1]).sum(axis=1)


def nll(log_posteriors, y):
    return -log_posteriors[np.arange(len(y)), y].mean()


@pytest.mark.parametrize("module", [calibration, scaling, matrix, isotonic])
def test_the_examples_in_the_documentation_run(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    true, y = simulated()
    fitted = TemperatureScaling().fit(log_softmax(true / temperature, axis=1), y)
    assert fitted.temperature_ * temperature == pytest.approx(1, abs=0.03)
    assert not fitted.at_bound_


def test_two_classes_of_one_confidence_have_a_closed_form():
    """90 % said, 75 % right: logit(0.9) / T = logit(0.75)."""
    posteriors = np.log([[0.9, 0.1]] * 4)
    fitted = TemperatureScaling().fit(posteriors, [0, 0, 0, 1])
    assert fitted.temperature_ == pytest.approx(np.log(9) / np.log(3), rel=1e-12)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(posteriors)[0]), [0.75, 0.25])


def test_known_temperature_and_biases_are_found():
    true, y = simulated(40_000)
    bias = np.array([0.8, -0.3, 0.0, -0.5])
    distorted = log_softmax(2 * true + bias, axis=1)
    fitted = VectorScaling().fit(distorted, y)
    np.testing.assert_allclose(fitted.scale_, 0.5, atol=0.02)
    np.testing.assert_allclose(fitted.bias_, -bias / 2, atol=0.04)
    assert fitted.bias_.sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(fitted.predict_log_proba(distorted), true, atol=0.2)


def test_a_known_scale_for_each_class_is_found():
    scale = np.array([0.5, 1.0, 1.5, 0.8])
    fitted = VectorScaling(scale="class").fit(*simulated(80_000, scale=scale))
    np.testing.assert_allclose(fitted.scale_, scale, atol=0.06)
    np.testing.assert_allclose(fitted.bias_, 0, atol=0.06)


def test_a_known_mixture_of_classes_is_undone_by_a_matrix():
    true, y = simulated(40_000)
    mixing = np.eye(4) + 0.3 * np.roll(np.eye(4), 1, axis=0)
    distorted = log_softmax(true @ mixing.T, axis=1)
    test, _ = simulated(1000, seed=1)
    fitted = MatrixScaling(off_diagonal=1e-4, intercept=1e-4).fit(distorted, y)
    found = fitted.predict_log_proba(log_softmax(test @ mixing.T, axis=1))
    np.testing.assert_allclose(np.exp(found), np.exp(test), atol=0.03)


@EVERY
def test_calibrated_posteriors_stay_what_they_are(unfitted):
    """A calibration that invents structure makes a sound system worse."""
    fit, y = simulated(20_000)
    test, _ = simulated(2000, seed=1)
    found = clone(unfitted).fit(fit, y).predict_log_proba(test)
    assert np.abs(np.exp(found) - np.exp(test)).mean() < 0.01


@EVERY
def test_the_loss_on_the_fit_rows_never_rises(unfitted):
    true, y = simulated(2000, seed=3)
    distorted = log_softmax(2.5 * true + [0.5, 0, -0.5, 0], axis=1)
    found = clone(unfitted).fit(distorted, y).predict_log_proba(distorted)
    assert nll(found, y) < nll(distorted, y)
    np.testing.assert_allclose(logsumexp(found, axis=1), 0, atol=1e-12)


class Scores(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is its input."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X

    def predict(self, X):
        return X.argmax(axis=1)


@pytest.mark.filterwarnings("ignore:Since FrozenEstimator")
@pytest.mark.parametrize("weighted", [False, True])
def test_the_temperature_is_that_of_scikit_learn(weighted):
    true, y = simulated(500)
    distorted = log_softmax(3 * true, axis=1)
    weight = np.random.default_rng(1).integers(1, 4, size=500) if weighted else None
    theirs = CalibratedClassifierCV(FrozenEstimator(Scores().fit(true, y)), method="temperature")
    theirs.fit(distorted, y, sample_weight=weight)
    ours = TemperatureScaling().fit(distorted, y, sample_weight=weight)
    beta = theirs.calibrated_classifiers_[0].calibrators[0].beta_
    assert ours.temperature_ == pytest.approx(1 / beta, rel=1e-6)
    np.testing.assert_allclose(
        np.exp(ours.predict_log_proba(distorted)), theirs.predict_proba(distorted), atol=1e-7
    )


def test_an_unpenalised_matrix_is_logistic_regression_without_a_penalty():
    true, y = simulated(3000)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(true, y)
    ours = MatrixScaling(off_diagonal=0, intercept=0).fit(true, y)
    np.testing.assert_allclose(
        np.exp(ours.predict_log_proba(true)), theirs.predict_proba(true), atol=1e-5
    )


def test_the_matrix_minimises_the_loss_of_its_definition():
    """ODIR written out plainly; penalties that scale otherwise would move the optimum."""
    true, y = simulated(300, n_classes=3)
    off_diagonal, intercept = 0.3, 0.7

    def loss(values):
        W, b = values[:9].reshape(3, 3), values[9:]
        outside = W[~np.eye(3, dtype=bool)]
        penalty = off_diagonal * np.mean(outside**2) + intercept * np.mean(b**2)
        return nll(log_softmax(true @ W.T + b, axis=1), y) + penalty

    ours = MatrixScaling(off_diagonal, intercept).fit(true, y)
    found = np.concatenate([ours.matrix_.ravel(), ours.bias_])
    theirs = minimize(loss, np.concatenate([np.eye(3).ravel(), np.zeros(3)]), tol=1e-10)
    np.testing.assert_allclose(found, theirs.x, atol=1e-4)
    assert loss(found) <= theirs.fun + 1e-12


def test_isotonic_functions_are_those_of_scikit_learn():
    fit, y = simulated(500, n_classes=3)
    test, _ = simulated(200, n_classes=3, seed=1)
    fitted = IsotonicOneVsRest().fit(fit, y)
    theirs = np.column_stack([
        IsotonicRegression(out_of_bounds="clip")
        .fit(np.exp(fit[:, c]), y == c)
        .predict(np.exp(test[:, c]))
        for c in range(3)
    ])  # fmt: skip
    theirs = np.maximum(theirs, 1 / 502)
    np.testing.assert_allclose(
        np.exp(fitted.predict_log_proba(test)), theirs / theirs.sum(axis=1, keepdims=True)
    )


def test_isotonic_regression_never_says_never():
    """A class that was never right at low posteriors gets 1 / (n + 2) there, before the sum."""
    dev = np.log([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    fitted = IsotonicOneVsRest().fit(dev, [0, 0, 1, 1])
    floor = 1 / 6
    np.testing.assert_allclose(
        np.exp(fitted.predict_log_proba(dev[:1]))[0], [1 / (1 + floor), floor / (1 + floor)]
    )


def test_rows_that_isotonic_regression_gives_nothing_keep_their_posteriors():
    dev = np.log([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]] * 2 + [[0.4, 0.4, 0.2]] * 2)
    fitted = IsotonicOneVsRest().fit(dev, [0, 1, 2] * 2 + [2, 2])
    lost = np.log([[0.4, 0.4, 0.2], [0.35, 0.4, 0.25]])
    values = [np.interp(0.4, *fitted.steps_[fitted.steps_[:, 0] == c, 1:].T) for c in (0, 1)]
    assert values == [0, 0]
    fitted.steps_[fitted.steps_[:, 0] == 2, 2] = 0  # now nothing is left of such a row
    np.testing.assert_allclose(fitted.predict_log_proba(lost), lost, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_temperature_never_changes_the_decision(seed, n_classes, n):
    """Ties, impossible classes, one-hot rows and labels of one class only are all in here."""
    rng = np.random.default_rng(seed)
    posteriors = rng.integers(0, 4, size=(n, n_classes)) + 1e-300
    posteriors[rng.random(n) < 0.3] = np.eye(n_classes)[rng.integers(n_classes)]
    with np.errstate(divide="ignore"):
        logs = np.log(posteriors / posteriors.sum(axis=1, keepdims=True))
    y = rng.integers(rng.integers(1, n_classes + 1), size=n)
    fitted = TemperatureScaling().fit(logs, y)
    assert 0.01 <= fitted.temperature_ <= 100
    found = fitted.predict_log_proba(logs)
    assert np.isfinite(found).all()
    floored = np.maximum(logs, LOG_FLOOR)
    for before, after in zip(floored, found, strict=True):
        order = np.argsort(before, kind="stable")
        assert (np.diff(after[order]) >= 0).all()
        assert after.argmax() == before.argmax()


@EVERY
def test_one_hot_posteriors_are_calibrated_to_how_often_they_are_right(unfitted):
    """A vote or a decision tree gives zeros: an infinite loss, unless they are raised."""
    rng = np.random.default_rng(0)
    y = np.arange(3000) % 3
    said = np.where(rng.random(3000) < 0.7, y, rng.integers(3, size=3000))
    with np.errstate(divide="ignore"):
        logs = np.log(np.eye(3)[said])
    found = clone(unfitted).fit(logs, y).predict_log_proba(logs)
    assert np.isfinite(found).all()
    confidence = np.exp(found.max(axis=1))
    assert confidence.mean() == pytest.approx((said == y).mean(), abs=0.01)
    np.testing.assert_array_equal(found.argmax(axis=1), said)


@EVERY
def test_separated_rows_have_an_answer_and_say_that_it_is_a_bound(unfitted):
    """A dev set without errors drives temperatures to 0 and scales to infinity."""
    y = np.arange(60) % 3
    logs = np.log(0.1 + 0.7 * np.eye(3)[y])
    fitted = clone(unfitted).fit(logs, y)
    assert np.isfinite(fitted.predict_log_proba(logs)).all()
    assert nll(fitted.predict_log_proba(logs), y) < nll(logs, y)
    if isinstance(fitted, TemperatureScaling):
        assert fitted.at_bound_
        assert fitted.temperature_ == pytest.approx(0.01)


def test_posteriors_that_lie_are_flattened_as_far_as_the_bound():
    logs = np.log([[0.9, 0.1], [0.1, 0.9]] * 10)
    fitted = TemperatureScaling().fit(logs, [1, 0] * 10)
    assert fitted.at_bound_
    assert fitted.temperature_ == pytest.approx(100)


def test_uniform_posteriors_have_no_temperature_and_stay():
    logs = np.log(np.full((6, 3), 1 / 3))
    fitted = TemperatureScaling().fit(logs, [0, 1, 2, 0, 1, 2])
    assert (fitted.temperature_, fitted.at_bound_) == (1.0, False)
    np.testing.assert_allclose(fitted.predict_log_proba(logs), logs)


@NEEDS_CLASSES
def test_the_class_shares_of_the_fit_rows_are_taken_on(unfitted):
    true, y = simulated(20_000)
    kept = (y != 0) | (np.arange(len(y)) % 4 == 0)
    fitted = clone(unfitted).fit(true[kept], y[kept])
    assert not fitted.keeps_prior
    mean = np.exp(fitted.predict_log_proba(true[kept])).mean(axis=0)
    shares = np.bincount(y[kept]) / kept.sum()
    # Exact where there is a free bias: the likelihood's slope by it is the difference.
    np.testing.assert_allclose(mean, shares, atol=1e-6 if "Vector" in str(unfitted) else 0.015)
    assert np.exp(true[kept]).mean(axis=0)[0] > shares[0] + 0.05


@EVERY
def test_a_weight_is_a_row_repeated(unfitted):
    true, y = simulated(400, n_classes=3)
    times = np.random.default_rng(0).integers(0, 3, size=400)
    by_weight = clone(unfitted).fit(true, y, sample_weight=times)
    repeated = clone(unfitted).fit(np.repeat(true, times, axis=0), np.repeat(y, times))
    if isinstance(unfitted, IsotonicOneVsRest):
        repeated.floor_ = by_weight.floor_  # counts rows, whatever they weigh
    np.testing.assert_allclose(
        by_weight.predict_log_proba(true), repeated.predict_log_proba(true), atol=1e-5
    )


@EVERY
def test_what_was_learnt_survives_json_bit_for_bit(unfitted):
    """The fit is stored beside the table; what is applied later must be the same map."""
    true, y = simulated(400)
    fitted = clone(unfitted).fit(true, y)
    method = next(name for name, kind in METHODS.items() if type(fitted) is kind)
    again = restore(method, json.loads(json.dumps(fitted.learnt())))
    np.testing.assert_array_equal(again.predict_log_proba(true), fitted.predict_log_proba(true))
    assert again.keeps_prior == fitted.keeps_prior
    assert again.learnt() == fitted.learnt()


@EVERY
def test_of_cross_fitted_calibrations_the_mean_is_taken(unfitted):
    """Nobody can say which of five fits fits rows that are in none of the folds."""
    true, y = simulated(900)
    fitted = [clone(unfitted).fit(true[i::3], y[i::3]) for i in range(3)]
    mean = type(unfitted).mean_of(fitted)
    each = np.stack([one.predict_log_proba(true) for one in fitted])
    if isinstance(unfitted, IsotonicOneVsRest):
        functions = [
            np.interp(np.exp(true[:, 0]), *one.steps_[one.steps_[:, 0] == 0, 1:].T)
            for one in fitted
        ]
        own = mean.steps_[mean.steps_[:, 0] == 0, 1:].T
        found = np.interp(np.exp(true[:, 0]), *own)
        np.testing.assert_allclose(found, np.mean(functions, axis=0), atol=1e-12)
    else:
        expected = log_softmax(each.mean(axis=0), axis=1)
        np.testing.assert_allclose(mean.predict_log_proba(true), expected, atol=1e-9)
    method = next(name for name, kind in METHODS.items() if type(mean) is kind)
    again = restore(method, json.loads(json.dumps(mean.learnt())))
    np.testing.assert_array_equal(again.predict_log_proba(true), mean.predict_log_proba(true))


@EVERY
def test_the_mean_of_one_calibration_is_itself_and_of_none_or_others_there_is_none(unfitted):
    true, y = simulated(400)
    fitted = clone(unfitted).fit(true, y)
    assert type(fitted).mean_of([fitted]) is fitted
    other = clone(unfitted).fit(*simulated(400, n_classes=3))
    for odd in ([], [fitted, other]):
        with pytest.raises(ValueError, match="have no mean"):
            type(fitted).mean_of(odd)


@EVERY
def test_a_row_is_calibrated_alike_whatever_stands_beside_it(unfitted):
    true, y = simulated(400)
    fitted = clone(unfitted).fit(true, y)
    alone = np.concatenate([fitted.predict_log_proba(row[None]) for row in true[:20]])
    np.testing.assert_array_equal(alone, fitted.predict_log_proba(true)[:20])


def test_only_what_a_method_learns_is_taken_back():
    with pytest.raises(ValueError, match="no calibration is called 'platt'; there are temperature"):
        restore("platt", {})
    with pytest.raises(ValueError, match="TemperatureScaling learns n_classes, temperature"):
        restore("temperature", {"scale": 1.0})


@NEEDS_CLASSES
def test_a_class_without_rows_is_named(unfitted):
    true, y = simulated(400)
    with pytest.raises(ValueError, match="no fit row has class 2"):
        clone(unfitted).fit(true, np.where(y == 2, 1, y))
    with pytest.raises(ValueError, match="no fit row has class 2"):
        clone(unfitted).fit(true, y, sample_weight=(y != 2).astype(float))


@pytest.mark.parametrize(
    ("unfitted", "needed"),
    [
        (VectorScaling(), 4),
        (VectorScaling(scale="class"), 7),
        (MatrixScaling(), 15),
        (IsotonicOneVsRest(), 8),
    ],
)
def test_fewer_rows_than_parameters_are_refused(unfitted, needed):
    true, y = simulated(400)
    rows = np.concatenate([[np.flatnonzero(y == c)[0] for c in range(4)], range(20)])[:needed]
    clone(unfitted).fit(true[rows], y[rows])
    rows = rows[: needed - 1]
    with pytest.raises(ValueError, match=f"{needed - 1} rows to fit on, but .* learns {needed}"):
        clone(unfitted).fit(true[rows], y[rows])


@EVERY
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.log([[0.5, 0.5], [np.nan, 0.5]]), "row 1 holds no log-posteriors"),
        (np.log([[0.5, 0.5], [0.5, 0.4]]), "row 1 holds no log-posteriors: .* sum to 0.9"),
        ([[0.5, 0.5], [0.1, 0.9]], "row 0 holds no log-posteriors"),
        (np.full((2, 2), -np.inf), "row 0 holds no log-posteriors"),
        ([[np.inf, -np.inf]] * 2, "row 0 holds no log-posteriors"),
        ([0.0, 0.0], r"shape \(2,\)"),
        (np.zeros((2, 1)), "at least one utterance and two classes"),
        (np.zeros((0, 2)), "at least one utterance and two classes"),
    ],
)
def test_what_is_no_log_posterior_is_refused(unfitted, rows, message):
    with pytest.raises(ValueError, match=message), np.errstate(over="ignore"):
        clone(unfitted).fit(rows, [0, 1])
    true, y = simulated(100, n_classes=2)
    fitted = clone(unfitted).fit(true, y)
    with pytest.raises(ValueError, match=message), np.errstate(over="ignore"):
        fitted.predict_log_proba(rows)


@pytest.mark.parametrize(
    ("y", "weight", "message"),
    [
        ([0, 1, 1], None, r"y has shape \(3,\); expected \(2,\)"),
        ([0, 2], None, "y holds 2 in row 1; expected 0 to 1"),
        ([0, 1], [1.0], r"sample_weight has shape \(1,\)"),
        ([0, 1], [1.0, -1.0], "finite weights of at least 0"),
        ([0, 1], [0.0, 0.0], "not all of them 0"),
        ([0, 1], [1.0, np.nan], "finite weights"),
    ],
)
def test_labels_and_weights_must_fit_the_rows(y, weight, message):
    with pytest.raises(ValueError, match=message):
        TemperatureScaling().fit(np.log([[0.5, 0.5], [0.1, 0.9]]), y, sample_weight=weight)


def test_settings_out_of_range_and_other_class_counts_are_refused():
    true, y = simulated(100)
    with pytest.raises(ValueError, match="scale is 'each'; expected common or class"):
        VectorScaling(scale="each").fit(true, y)
    with pytest.raises(ValueError, match="intercept is -1; expected at least 0"):
        MatrixScaling(intercept=-1).fit(true, y)
    fitted = TemperatureScaling().fit(true, y)
    with pytest.raises(ValueError, match="have 2 classes; the calibration was fitted on 4"):
        fitted.predict_log_proba(np.log([[0.5, 0.5]]))
