"""The prior of rows without labels: found from posteriors alone, and never from the labels."""

from __future__ import annotations

import doctest
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from sklearn.exceptions import ConvergenceWarning

from serflow import prior_estimation
from serflow.errors import UserError
from serflow.posteriors import Posteriors
from serflow.prior_estimation import estimate_prior_bbse, estimate_prior_em
from serflow.priors import PriorShift
from serflow.rebalancing import rebalance

MEANS = np.array([[0.0, 0.0], [2.0, 0.0], [0.5, 1.5]])
TRAIN = np.array([0.7, 0.2, 0.1])
SHIFTED = np.array([0.2, 0.3, 0.5])


def posteriors_of(labels, rng, prior=TRAIN):
    """Posteriors of the optimal classifier for Gaussian classes, trained with a prior."""
    x = MEANS[labels] + rng.standard_normal((len(labels), 2))
    log_likelihood = -((x[:, None] - MEANS) ** 2).sum(axis=-1) / 2
    return log_softmax(log_likelihood + np.log(prior), axis=1)


def drawn(prior, n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=prior)
    return labels, posteriors_of(labels, rng)


def log_likelihood(prior, log_posteriors, train):
    with np.errstate(divide="ignore"):
        return logsumexp(log_posteriors + np.log(prior) - np.log(train), axis=1).mean()


def steps(log_posteriors, train, n):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimate_prior_em(log_posteriors, train, max_iter=n)


@st.composite
def cases(draw):
    n_classes = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    train = rng.dirichlet(np.ones(n_classes)) * 0.95 + 0.05 / n_classes
    sharpness = draw(st.sampled_from([0.1, 1.0, 20.0]))
    scores = sharpness * rng.standard_normal((draw(st.integers(1, 40)), n_classes))
    return log_softmax(scores + np.log(train), axis=1), train


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(prior_estimation).failed == 0


@pytest.mark.parametrize("true", [TRAIN, SHIFTED, [0.0, 0.5, 0.5]])
def test_both_estimates_find_the_prior_of_unlabelled_rows(true):
    _, unlabelled = drawn(true, 20_000, seed=1)
    labels, reference = drawn(TRAIN, 20_000, seed=2)
    np.testing.assert_allclose(estimate_prior_em(unlabelled, TRAIN), true, atol=0.015)
    for decisions in ("soft", "hard"):
        found = estimate_prior_bbse(unlabelled, reference, labels, decisions=decisions)
        np.testing.assert_allclose(found, true, atol=0.025)


@given(cases())
@settings(max_examples=50)
def test_no_step_of_em_lowers_the_likelihood_and_the_last_is_a_fixed_point(case):
    log_posteriors, train = case
    path = [steps(log_posteriors, train, n) for n in range(1, 12)]
    gains = np.diff([log_likelihood(p, log_posteriors, train) for p in [train, *path]])
    assert gains.min() > -1e-12
    prior = steps(log_posteriors, train, 10_000)
    assert prior.sum() == pytest.approx(1, abs=1e-12)
    shifted = PriorShift(train, prior).transform(log_posteriors)
    again = np.exp(shifted).mean(axis=0)
    before, after = (log_likelihood(p, log_posteriors, train) for p in (prior, again))
    assert after - before == pytest.approx(0, abs=1e-8)


def test_em_ends_at_the_maximum_that_a_general_optimiser_finds():
    """A loop that stops when steps get small stops far from it where classes overlap."""
    _, unlabelled = drawn(SHIFTED, 500, seed=3)
    unlabelled = log_softmax(0.3 * (unlabelled - np.log(TRAIN)) + np.log(TRAIN), axis=1)
    best = minimize(
        lambda free: -log_likelihood(np.exp(log_softmax(free)), unlabelled, TRAIN),
        np.zeros(3), tol=1e-12,
    )  # fmt: skip
    found = estimate_prior_em(unlabelled, TRAIN)
    assert log_likelihood(found, unlabelled, TRAIN) == pytest.approx(-best.fun, abs=2e-8)


@given(cases(), st.randoms())
@settings(max_examples=30)
def test_class_order_does_not_matter(case, random):
    log_posteriors, train = case
    order = random.sample(range(len(train)), len(train))
    np.testing.assert_allclose(
        steps(log_posteriors[:, order], train[order], 50), steps(log_posteriors, train, 50)[order]
    )


def test_one_hot_posteriors_give_their_shares_and_make_no_nan():
    with np.errstate(divide="ignore"):
        one_hot = np.log(np.eye(3)[[0, 0, 1, 2]])
    np.testing.assert_allclose(estimate_prior_em(one_hot, TRAIN), [0.5, 0.25, 0.25])
    np.testing.assert_allclose(
        estimate_prior_bbse(one_hot, one_hot, [0, 0, 1, 2]), [0.5, 0.25, 0.25]
    )


def test_very_confident_posteriors_do_not_underflow():
    far = [[0.0, -3000.0], [-3000.0, 0.0], [0.0, -3000.0], [0.0, -3000.0]]
    np.testing.assert_allclose(estimate_prior_em(far, [0.999, 0.001]), [0.75, 0.25])


def test_a_class_without_training_prior_stays_without():
    """A softmax never says exactly 0, not even of a class that its training lacked."""
    log_posteriors = np.log([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.7, 0.2]])
    found = estimate_prior_em(log_posteriors, [0.5, 0.5, 0.0])
    assert found[2] == 0
    pair = log_posteriors[:, :2] - logsumexp(log_posteriors[:, :2], axis=1, keepdims=True)
    np.testing.assert_allclose(found[:2], estimate_prior_em(pair, [0.5, 0.5]))


def test_bbse_gives_0_to_a_class_that_is_impossible_on_both_sides():
    labels, reference = drawn(TRAIN, 300, seed=4)
    _, unlabelled = drawn(SHIFTED, 300, seed=5)
    wider = [np.column_stack([x, np.full(300, -np.inf)]) for x in (unlabelled, reference)]
    found = estimate_prior_bbse(*wider, labels)
    np.testing.assert_allclose(found, [*estimate_prior_bbse(unlabelled, reference, labels), 0])


def test_bbse_corrects_posteriors_that_are_wrong_in_the_same_way_on_both_sides():
    """Overconfident posteriors: EM believes them, which is why there is a second opinion."""
    _, unlabelled = drawn(SHIFTED, 20_000, seed=6)
    labels, reference = drawn(TRAIN, 20_000, seed=7)
    # As networks are: sharper than right, and leaning towards a class.
    unlabelled, reference = (
        log_softmax(3 * x + [1.5, 0, 0], axis=1) for x in (unlabelled, reference)
    )
    bbse = estimate_prior_bbse(unlabelled, reference, labels)
    np.testing.assert_allclose(bbse, SHIFTED, atol=0.03)
    assert np.abs(estimate_prior_em(unlabelled, TRAIN) - SHIFTED).max() > 0.05


def test_an_estimate_that_has_not_converged_says_so():
    _, unlabelled = drawn(SHIFTED, 100, seed=8)
    with pytest.warns(ConvergenceWarning, match="not converged after 2 steps"):
        estimate_prior_em(unlabelled, TRAIN, max_iter=2)


@pytest.mark.parametrize(
    ("log_posteriors", "train", "message"),
    [
        ([[0.0, -np.inf, -np.inf]], [0.0, 0.5, 0.5], "row 0 gives all its probability to classes"),
        (np.empty((0, 3)), TRAIN, "log-posteriors have no rows"),
        ([[np.nan, 0.0, 0.0]], TRAIN, "NaN or \\+inf, first in row 0"),
        ([[0.0, 0.0]], TRAIN, r"shape \(1, 2\); expected \(n_utterances, 3\)"),
        ([[0.0, 0.0, 0.0]], [0.5, 0.4, 0.0], "train_prior sums to 0.9"),
    ],
)
def test_what_em_cannot_use_is_named(log_posteriors, train, message):
    with pytest.raises(ValueError, match=message):
        estimate_prior_em(log_posteriors, train)


UNIFORM = np.full((6, 3), -np.log(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference_labels": [0, 0, 1, 1, 1, 0]}, "class 2 has no reference rows"),
        ({"reference_labels": [0, 1, 2]}, r"reference_labels have shape \(3,\); expected \(6,\)"),
        ({"reference_labels": [0, 1, 2, 0, 1, 3]}, "reference holds 3 in row 5"),
        ({"reference_log_posteriors": np.empty((0, 3))}, "reference log-posteriors have no rows"),
        ({"log_posteriors": UNIFORM[:, :2]}, r"log-posteriors have shape \(6, 2\)"),
        ({"decisions": "firm"}, "decisions is 'firm'"),
        # A classifier that says the same of everything predicts nothing about shares.
        ({}, "hardly depend on the class"),
    ],
)
def test_what_bbse_cannot_use_is_named(change, message):
    valid = {
        "log_posteriors": UNIFORM,
        "reference_log_posteriors": UNIFORM,
        "reference_labels": [0, 1, 2, 0, 1, 2],
    }
    with pytest.raises(ValueError, match=message):
        estimate_prior_bbse(**{**valid, **change})


CLASSES = ("neutral", "angry", "sad")


def table(folds=("0", "1"), roles=("dev", "test"), n=2000):
    """Dev rows are distributed as training rows, test rows are not, and folds differ."""
    rows, log_proba = [], []
    for number, fold in enumerate(folds):
        for role in roles:
            prior = TRAIN if role == "dev" else np.roll(SHIFTED, number)
            labels, values = drawn(prior, n, seed=10 * number + (role == "dev"))
            names = [f"{fold}-{role}-{i}" for i in range(n)]
            said = np.array(CLASSES)[labels]
            rows.append(
                pd.DataFrame(
                    {
                        "utterance_id": names,
                        "system": "s",
                        "fold": fold,
                        "role": role,
                        "label": said,
                    }
                )
            )
            log_proba.append(values)
    priors = dict.fromkeys(folds, TRAIN)
    rows = pd.concat(rows, ignore_index=True)
    return Posteriors(rows, np.concatenate(log_proba), CLASSES, priors, 1, "s")


@pytest.mark.parametrize("target", ["em", "bbse"])
def test_each_fold_is_moved_to_the_prior_of_its_own_test_rows(target):
    raw = table()
    moved = rebalance(raw, target)
    for number, fold in enumerate(("0", "1")):
        np.testing.assert_allclose(moved.priors[fold], np.roll(SHIFTED, number), atol=0.06)
        rows = ((raw.rows["fold"] == fold) & (raw.rows["role"] == "test")).to_numpy()
        expected = PriorShift(TRAIN, moved.priors[fold]).transform(raw.log_proba[rows])
        np.testing.assert_array_equal(moved.log_proba[rows], expected)
    dev = (raw.rows["role"] == "dev").to_numpy()
    # Moved to the prior of the test rows, dev rows would call every other utterance sad.
    said = np.exp(moved.log_proba[dev]).mean(axis=0)
    np.testing.assert_allclose(said, TRAIN, atol=0.03)


@pytest.mark.parametrize("target", ["em", "bbse"])
def test_no_label_of_a_test_row_reaches_an_estimated_prior(target):
    raw = table(n=300)
    test = (raw.rows["role"] == "test").to_numpy()
    rows = raw.rows.copy()
    rows.loc[test, "label"] = np.random.default_rng(0).permutation(rows.loc[test, "label"])
    assert not rows["label"].equals(raw.rows["label"])
    once, again = rebalance(raw, target), rebalance(replace(raw, rows=rows), target)
    np.testing.assert_array_equal(once.log_proba, again.log_proba)


def test_em_reads_no_label_of_dev_rows_either():
    raw = table(n=300)
    blank = replace(raw, rows=raw.rows.assign(label="neutral"))
    np.testing.assert_array_equal(rebalance(raw, "em").log_proba, rebalance(blank, "em").log_proba)


def test_folds_without_dev_rows_cannot_be_moved_by_their_confusions():
    raw = table(roles=("test",), n=300)
    rebalance(raw, "em")
    with pytest.raises(
        UserError, match=r"fold 0 cannot be rebalanced: .* set folds.dev, or target"
    ):
        rebalance(raw, "bbse")


def test_a_dev_set_that_lacks_a_class_is_named_with_the_class_order():
    raw = table(n=300)
    kept = ~((raw.rows["role"] == "dev") & (raw.rows["label"] == "sad")).to_numpy()
    raw = replace(raw, rows=raw.rows[kept], log_proba=raw.log_proba[kept])
    with pytest.raises(UserError, match=r"class 2 has no reference rows.*neutral, angry, sad"):
        rebalance(raw, "bbse")
