"""Discriminant analysis: 15 dimensions of 8 classes, the same on every machine."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from serflow import lda
from serflow.lda import LengthNormalisation, LinearDiscriminantTransform, class_scatter


def embeddings(n_classes=8, n_features=20, n=400, seed=0):
    """Make correlated embeddings of unequal classes, and the labels."""
    rng = np.random.default_rng(seed)
    frequency = 0.8 ** np.arange(n_classes)
    y = rng.choice(n_classes, size=n, p=frequency / frequency.sum())
    y[: 2 * n_classes] = np.tile(np.arange(n_classes), 2)
    rotation = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0]
    mixing = np.linspace(0.5, 2, n_features)[:, None] * rotation
    means = rng.normal(size=(n_classes, n_features))
    return rng.normal(size=(n, n_features)) @ mixing + means[y] + 3, y


def covariances(z, y):
    """Covariance within classes and in total."""
    return class_scatter(z, y)[2] / len(z), np.cov(z.T, bias=True).reshape(z.shape[1], -1)


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(lda).failed == 0


@parametrize_with_checks(
    [
        LengthNormalisation(),
        LengthNormalisation(scale=False),
        LinearDiscriminantTransform(dim=1),
        LinearDiscriminantTransform(mode="clip", total_covariance_factor=0.5),
    ]
)
def test_scikit_learn_accepts_the_transforms(estimator, check):
    check(estimator)


def test_every_vector_gets_the_same_length_about_the_training_mean():
    """Loud or long utterances must not weigh more; test rows must not move the centre."""
    train, _ = embeddings()
    test = embeddings(seed=1)[0] * 5
    normalisation = LengthNormalisation().fit(train)
    lengths = np.linalg.norm(normalisation.transform(test), axis=1)
    np.testing.assert_allclose(lengths, np.sqrt(20), rtol=1e-12)
    np.testing.assert_allclose(
        LengthNormalisation(scale=False).fit(train).transform(test), test - train.mean(axis=0)
    )


def test_a_vector_at_the_mean_stays_zero_rather_than_nan():
    """An utterance of digital silence can have the embedding of the mean."""
    z = LengthNormalisation().fit([[1.0, 2.0], [3.0, 4.0]]).transform([[2.0, 3.0], [2.0, 4.0]])
    np.testing.assert_allclose(z, [[0, 0], [0, np.sqrt(2)]])


@pytest.mark.parametrize("mode", ["clip", "whiten"])
def test_the_discriminants_are_those_of_scikit_learn(mode):
    """Scatter normalised or weighted otherwise would give other directions or other scales."""
    x, y = embeddings(n_classes=5)
    ours = LinearDiscriminantTransform(4, mode, covariance_floor=1e-12).fit_transform(x, y)
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(x, y).transform(x - x.mean(axis=0))
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-6, atol=1e-8)


@given(st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_the_chosen_covariance_becomes_the_identity(factor, seed):
    x, y = embeddings(seed=seed)
    transform = LinearDiscriminantTransform(15, total_covariance_factor=factor)
    z = transform.fit_transform(x, y)
    within, total = covariances(z, y)
    np.testing.assert_allclose(within + factor * (total - within), np.eye(15), atol=1e-8)
    np.testing.assert_allclose(total - within, np.diag(transform.between_variance_), atol=1e-8)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-10)


def test_eight_classes_give_fifteen_dimensions_of_which_seven_discriminate():
    x, y = embeddings()
    transform = LinearDiscriminantTransform().fit(x, y)
    assert transform.transform(x).shape == (400, 15)
    assert (np.diff(transform.between_variance_) <= 0).all()
    assert (transform.between_variance_[:7] > 0.01).all()
    np.testing.assert_array_equal(transform.between_variance_[7:], 0)
    means = class_scatter(transform.transform(x), y)[1]
    np.testing.assert_allclose(means[:, 7:], 0, atol=1e-9)


def test_the_first_dimensions_do_not_depend_on_how_many_are_kept():
    x, y = embeddings()
    wide = LinearDiscriminantTransform(20).fit(x, y).projection_
    np.testing.assert_allclose(
        LinearDiscriminantTransform(10).fit(x, y).projection_, wide[:, :10], atol=1e-9
    )
    np.testing.assert_allclose(
        LinearDiscriminantTransform(mode="clip").fit(x, y).projection_, wide[:, :7], atol=1e-9
    )


def test_the_filling_directions_are_principal_components_of_what_the_discriminants_leave():
    x, y = embeddings()
    z = LinearDiscriminantTransform(15).fit_transform(x, y)
    x = x - x.mean(axis=0)
    rest = x - LinearRegression().fit(z[:, :7], x).predict(z[:, :7])
    components = PCA(8, whiten=True).fit_transform(rest)
    together = np.corrcoef(z[:, 7:].T, components.T)[:8, 8:]
    np.testing.assert_allclose(np.abs(together), np.eye(8), atol=1e-6)


def test_rounding_of_another_blas_does_not_turn_the_filling_directions():
    """An eigensolver returns any rotation of equal eigenvalues: another machine, other posteriors."""
    x, y = embeddings()
    noise = 1e-10 * np.random.default_rng(1).normal(size=x.shape)
    np.testing.assert_allclose(
        LinearDiscriminantTransform().fit(x + noise, y).projection_,
        LinearDiscriminantTransform().fit(x, y).projection_,
        atol=1e-6,
    )


def test_a_rotation_of_the_features_changes_no_score_beyond_its_sign():
    """The hidden units of a network have no order and no axes of their own."""
    x, y = embeddings()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0]
    np.testing.assert_allclose(
        np.abs(LinearDiscriminantTransform().fit_transform(x @ rotation, y)),
        np.abs(LinearDiscriminantTransform().fit_transform(x, y)),
        atol=1e-7,
    )


def test_clip_keeps_as_many_dimensions_as_the_classes_allow():
    x, y = embeddings()
    for dim, n_classes, expected in [(15, 8, 7), (15, 3, 2), (4, 8, 4)]:
        kept = y < n_classes
        transform = LinearDiscriminantTransform(dim, "clip").fit(x[kept], y[kept])
        assert transform.dim_ == transform.transform(x).shape[1] == expected


def test_eight_emotions_of_two_genders_have_fifteen_discriminants():
    x, y = embeddings(n=2000)
    rng = np.random.default_rng(1)
    gender = rng.choice(["female", "male"], size=len(y))
    x += rng.normal(size=(8, 2, 20))[y, (gender == "male").astype(int)]
    transform = LinearDiscriminantTransform(15, "emotion_x_gender").fit(x, y, gender=gender)
    assert (transform.between_variance_ > 0.01).all()
    pairs = np.unique(np.char.add(y.astype(str), gender), return_inverse=True)[1]
    reference = LinearDiscriminantTransform(15, "clip").fit(x, pairs)
    np.testing.assert_allclose(transform.projection_, reference.projection_, atol=1e-8)


def test_rows_of_unknown_gender_make_no_third_gender():
    """MSP-Podcast has speakers whose gender nobody noted."""
    x, y = embeddings(n=600)
    gender = np.array(["female", "male", None, np.nan] * 150, dtype=object)
    known = np.array([True, True, False, False] * 150)
    transform = LinearDiscriminantTransform(10, "emotion_x_gender")
    np.testing.assert_array_equal(
        clone(transform).fit(x, y, gender=gender).projection_,
        clone(transform).fit(x[known], y[known], gender=gender[known]).projection_,
    )


@pytest.mark.parametrize(
    ("gender", "message"),
    [
        (None, r"needs genders: fit\(X, y, gender=...\)"),
        (["female"] * 400, "the 8 pairs of emotion and gender have 7 discriminant directions"),
        (["female"] * 399, r"gender has shape \(399,\); expected \(400,\)"),
        ([None] * 400, "no row's gender is known"),
    ],
)
def test_genders_that_do_not_carry_fifteen_dimensions_are_refused(gender, message):
    x, y = embeddings()
    with pytest.raises(ValueError, match=message):
        LinearDiscriminantTransform(15, "emotion_x_gender").fit(x, y, gender=gender)


def test_a_unit_that_never_fires_in_training_is_not_blown_up():
    """Behind a ReLU some units are dead on the training rows and fire on a test row."""
    x, y = embeddings()
    with_dead = np.insert(x, 5, 0.0, axis=1)
    transform = LinearDiscriminantTransform().fit(with_dead, y)
    np.testing.assert_allclose(transform.projection_[5], 0, atol=1e-6)
    np.testing.assert_allclose(
        transform.transform(with_dead), LinearDiscriminantTransform().fit_transform(x, y), atol=1e-6
    )


def test_fewer_rows_than_features_still_give_finite_scores():
    """A toy study trains on some dozens of utterances with embeddings of 768 features."""
    x, y = embeddings(n=60, n_features=200)
    assert np.isfinite(LinearDiscriminantTransform().fit_transform(x, y)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mode": "kaldi"}, "mode is 'kaldi'; expected whiten, emotion_x_gender or clip"),
        ({"dim": 0}, "dim is 0; expected 1 or more"),
        ({"dim": 21}, "dim is 21, but n_features = 20"),
        ({"total_covariance_factor": 1.5}, "expected 0 to 1"),
        ({"covariance_floor": 0.0}, "expected between 0 and 1"),
    ],
)
def test_a_wrong_parameter_is_named(parameters, message):
    x, y = embeddings()
    with pytest.raises(ValueError, match=message):
        LinearDiscriminantTransform(**parameters).fit(x, y)


def test_rows_without_any_spread_within_classes_are_refused():
    with pytest.raises(ValueError, match="no feature varies within a class"):
        LinearDiscriminantTransform(1).fit([[0.0], [0.0], [1.0], [1.0]], [0, 0, 1, 1])
