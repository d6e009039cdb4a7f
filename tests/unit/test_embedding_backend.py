"""The backend of embeddings: what it is not to learn from, and the prior that it says it has."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.model_selection import cross_validate
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from serflow import embedding_backend
from serflow.embedding_backend import EmbeddingBackend
from serflow.priors import PriorShift

CLASSIFIERS = ["logistic_regression", "plda"]


def embeddings(n_classes=8, n=800, n_features=24, seed=0):
    """Make embeddings in classes of falling frequency, and the labels."""
    rng = np.random.default_rng(seed)
    frequency = 0.6 ** np.arange(n_classes)
    y = rng.choice(n_classes, size=n, p=frequency / frequency.sum())
    y[:n_classes] = np.arange(n_classes)
    return rng.normal(size=(n, n_features)) + rng.normal(size=(n_classes, n_features))[y] / 2, y


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(embedding_backend).failed == 0


@parametrize_with_checks(
    [
        EmbeddingBackend(mode="clip"),
        EmbeddingBackend(mode="clip", classifier="plda", prior="empirical"),
    ]
)
def test_scikit_learn_accepts_the_classifier(estimator, check):
    check(estimator)


@given(st.integers(2, 8), st.sampled_from(CLASSIFIERS), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_shifted_biases_are_posteriors_times_the_ratio_of_priors(n_classes, classifier, seed):
    """With two classes scikit-learn keeps one bias, with three or more one each."""
    x, y = embeddings(n_classes, n=200, seed=seed)
    uniform, trained = (
        EmbeddingBackend(n_classes, classifier=classifier, prior=prior).fit(x, y)
        for prior in ("uniform", "empirical")
    )
    np.testing.assert_array_equal(uniform.prior_, np.full(n_classes, 1 / n_classes))
    np.testing.assert_allclose(trained.prior_, np.bincount(y) / len(y))
    np.testing.assert_allclose(
        np.exp(uniform.predict_log_proba(x)),
        np.exp(PriorShift(trained.prior_).transform(trained.predict_log_proba(x))),
        rtol=0,
        atol=1e-12,
    )


def test_unshifted_logistic_regression_has_the_prior_of_its_training_rows():
    """Otherwise the ratio of the shift would be another."""
    x, y = embeddings()
    backend = EmbeddingBackend(8, prior="empirical").fit(x, y)
    np.testing.assert_allclose(backend.predict_proba(x).mean(axis=0), backend.prior_, atol=1e-3)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_other_and_no_agreement_teach_nothing(classifier):
    """Section 3.1: the network knows ten classes, the backend eight."""
    x, y = embeddings(n_classes=10)
    gender = np.where(np.arange(len(y)) % 3, "female", "male").astype(object)
    gender[y >= 8] = None
    eight = y < 8
    for mode, genders in [("whiten", None), ("emotion_x_gender", gender)]:
        backend = EmbeddingBackend(8, dim=10, mode=mode, classifier=classifier)
        kept = None if genders is None else genders[eight]
        expected = backend.fit(x[eight], y[eight], gender=kept).predict_log_proba(x)
        np.testing.assert_array_equal(
            backend.fit(x, y, gender=genders).predict_log_proba(x), expected
        )


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_class_without_rows_keeps_its_column_and_is_impossible(classifier):
    """A small fold may lack a class; its column must not go to the next class."""
    x, y = embeddings(n_classes=4)
    labels = np.array([0, 2, 3, 5])[y]
    backend = EmbeddingBackend(6, classifier=classifier).fit(x, labels)
    log_posteriors = backend.predict_log_proba(x)
    assert np.isneginf(log_posteriors[:, [1, 4]]).all()
    np.testing.assert_array_equal(backend.prior_, [0.25, 0, 0.25, 0.25, 0, 0.25])
    np.testing.assert_allclose(
        log_posteriors[:, [0, 2, 3, 5]],
        EmbeddingBackend(4, classifier=classifier).fit(x, y).predict_log_proba(x),
    )
    assert set(backend.predict(x)) <= {0, 2, 3, 5}


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("mode", ["whiten", "emotion_x_gender", "clip"])
def test_every_reading_of_the_paper_beats_chance_on_new_utterances(mode, classifier):
    x, y = embeddings(n=4000)
    gender = np.random.default_rng(1).choice(["female", "male"], size=len(y))
    backend = EmbeddingBackend(8, mode=mode, classifier=classifier)
    backend.fit(x[:3000], y[:3000], gender=gender[:3000])
    assert backend.discriminants_.dim_ == (7 if mode == "clip" else 15)
    posteriors = backend.predict_proba(x[3000:])
    np.testing.assert_allclose(posteriors.sum(axis=1), 1)
    recall = [(posteriors[y[3000:] == c].argmax(axis=1) == c).mean() for c in range(8)]
    assert np.mean(recall) > 0.5  # chance is 0.125


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_unit_variance_before_the_discriminants_would_change_nothing(classifier):
    """Of the readings of "feature normalization" only the length makes a difference."""
    x, y = embeddings()
    x *= np.logspace(-1, 1, x.shape[1])
    scaled = StandardScaler().fit_transform(x)
    by_length, centred = (
        EmbeddingBackend(8, mode="clip", normalise_length=length, classifier=classifier)
        for length in (True, False)
    )
    np.testing.assert_allclose(
        centred.fit(scaled, y).predict_proba(scaled), centred.fit(x, y).predict_proba(x), atol=1e-5
    )
    assert np.abs(by_length.fit(x, y).predict_proba(x) - centred.predict_proba(x)).max() > 0.01


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_very_confident_posteriors_stay_finite(classifier):
    """log(softmax) in two steps would give -inf, and a fusion by interpolation a veto."""
    x, y = embeddings(n_classes=3)
    backend = EmbeddingBackend(3, normalise_length=False, classifier=classifier).fit(x, y)
    log_posteriors = backend.predict_log_proba(1000 * x)
    assert np.isfinite(log_posteriors).all()
    assert log_posteriors.min() < -1000
    np.testing.assert_allclose(logsumexp(log_posteriors, axis=1), 0, atol=1e-9)


def test_cross_validation_passes_the_genders_on():
    """By scikit-learn's metadata routing, sliced like the rows."""
    x, y = embeddings(n_classes=4)
    gender = np.random.default_rng(1).choice(["female", "male"], size=len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        backend = EmbeddingBackend(4, dim=7, mode="emotion_x_gender").set_fit_request(gender=True)
        scores = cross_validate(backend, x, y, params={"gender": gender}, error_score="raise")
    assert (scores["test_score"] > 0.4).all()


def test_two_fits_agree_to_the_last_bit():
    x, y = embeddings()
    first, second = (EmbeddingBackend(8).fit(x, y).predict_log_proba(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"classifier": "svm"}, "classifier is 'svm'; expected logistic_regression or plda"),
        ({"prior": [0.5, 0.5]}, r"prior is \[0.5, 0.5\]; expected uniform or empirical"),
        ({"n_classes": 1}, "needs two classes; there is 1 class"),
        ({"mode": "emotion_x_gender"}, "needs genders"),
    ],
)
def test_a_wrong_parameter_is_named(parameters, message):
    x, y = embeddings()
    with pytest.raises(ValueError, match=message):
        EmbeddingBackend(**parameters).fit(x, y)


def test_labels_of_which_none_is_a_class_are_refused():
    """Labels as words, where class indices are expected, would leave no row."""
    x, y = embeddings()
    with pytest.raises(ValueError, match="no label is a class: none is in 0 to 7"):
        EmbeddingBackend(8).fit(x, y + 8)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        EmbeddingBackend(8).fit(x, y, gender=["female"])
