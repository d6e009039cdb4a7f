"""What a wrong target costs, and whom a right one helps: as shifting and counting would show."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from serflow import prior_sensitivity as module
from serflow.metrics import METRICS, confusion
from serflow.prior_sensitivity import EXPONENTS, class_effects, prior_sensitivity
from serflow.priors import PriorShift

TRAIN = np.array([0.7, 0.2, 0.1])
CLASSES = ("neutral", "angry", "sad")


def skewed(n=400, seed=0):
    """A model that says neutral too often, of utterances whose classes are equally frequent."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    scores = 1.5 * np.eye(3)[y] + rng.standard_normal((n, 3)) + np.log(TRAIN)
    return log_softmax(scores, axis=1), y


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("target", ["uniform", (0.2, 0.5, 0.3)])
@pytest.mark.parametrize("metric", ["macro_f1", "uar", "recall", "confusion"])
def test_every_point_is_a_shift_to_its_prior(target, metric):
    log_posteriors, y = skewed()
    values = prior_sensitivity(log_posteriors, y, TRAIN, target, metric=metric)
    end = np.full(3, 1 / 3) if target == "uniform" else np.array(target)
    assert len(values) == len(EXPONENTS) == 41
    for a, value in zip(EXPONENTS, values, strict=True):
        prior = TRAIN ** (1 - a) * end**a
        shifted = PriorShift(TRAIN, prior / prior.sum()).transform(log_posteriors)
        expected = METRICS[metric](confusion(y, shifted.argmax(axis=1), 3))
        np.testing.assert_array_equal(value, expected)


def test_the_curve_of_a_skewed_model_peaks_between_training_and_far_beyond_uniform():
    log_posteriors, y = skewed(3000)
    curve = prior_sensitivity(log_posteriors, y, TRAIN)
    best = EXPONENTS[curve.argmax()]
    assert 0.6 <= best <= 1.4
    assert curve[0] < curve[10] < curve[20], "-1 is the wrong way, 0 is raw, 1 is uniform"
    assert curve[40] < curve[20]


def test_folds_that_were_trained_with_other_priors_share_a_curve():
    """Pooled with the first fold's prior, the other folds would be shifted by the wrong ratio."""
    first, y = skewed(seed=1)
    other_train = TRAIN[::-1]
    other = PriorShift(TRAIN, other_train).transform(first)
    both = np.concatenate([first, other])
    priors = np.repeat([TRAIN, other_train], len(y), axis=0)
    cells = prior_sensitivity(both, np.tile(y, 2), priors, metric="confusion", exponents=[0.5, 1])
    parts = [
        prior_sensitivity(table, y, prior, metric="confusion", exponents=[0.5, 1])
        for table, prior in ((first, TRAIN), (other, other_train))
    ]
    np.testing.assert_array_equal(cells, parts[0] + parts[1])
    np.testing.assert_array_equal(parts[0][1], parts[1][1])  # both are uniform there


def test_a_class_that_neither_prior_has_is_never_said():
    log_posteriors = np.log([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    cells = prior_sensitivity(
        log_posteriors, [1, 0], [0.5, 0.5, 0.0], [0.4, 0.6, 0.0], metric="confusion"
    )
    assert (cells[..., 2] == 0).all()
    assert (cells.sum(axis=(1, 2)) == 2).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "F1"}, "unknown metric 'F1'"),
        ({"target": "flat"}, "target is 'flat'"),
        ({"train_prior": [0.5, 0.5, 0.0]}, "class 2 has prior 0 in training or in the target"),
        ({"train_prior": [0.5, 0.5]}, r"train_prior has shape \(1, 2\); expected \(3,\) or"),
        ({"train_prior": [0.5, 0.4, 0.2]}, "train_prior sums to 1.1"),
        ({"y": [0, 3]}, "reference holds 3 in row 1"),
        ({"log_posteriors": [[0.0, np.nan, 0.0]] * 2}, "NaN"),
    ],
)
def test_what_has_no_curve_is_named(change, message):
    valid = {"log_posteriors": np.zeros((2, 3)), "y": [0, 1], "train_prior": TRAIN}
    with pytest.raises(ValueError, match=message):
        prior_sensitivity(**{**valid, **change})


def test_effects_are_told_class_by_class():
    log_posteriors, y = skewed()
    moved = PriorShift(TRAIN).transform(log_posteriors)
    found = class_effects(log_posteriors, moved, y, CLASSES)
    assert found["label"].tolist() == list(CLASSES)
    assert found["n"].tolist() == [134, 133, 133]
    for stage, table in (("raw", log_posteriors), ("rebalanced", moved)):
        counts = confusion(y, table.argmax(axis=1), 3)
        for name in ("recall", "precision", "f1"):
            np.testing.assert_array_equal(found[f"{name}_{stage}"], METRICS[name](counts))
        np.testing.assert_allclose(found[f"predicted_{stage}"], counts.sum(axis=0) / len(y))
    assert (found["predicted_rebalanced"] > found["predicted_raw"]).tolist() == [False, True, True]
    assert found.loc[2, "recall_rebalanced"] > found.loc[2, "recall_raw"]


def test_probabilities_and_their_logarithms_have_the_same_effects():
    log_posteriors, y = skewed()
    moved = PriorShift(TRAIN).transform(log_posteriors)
    once = class_effects(log_posteriors, moved, y, CLASSES)
    assert once.equals(class_effects(softmax(log_posteriors, axis=1), np.exp(moved), y, CLASSES))


def test_tables_of_other_utterances_are_refused():
    with pytest.raises(ValueError, match=r"rebalanced has shape \(3, 2\); expected \(2, 2\)"):
        class_effects(np.zeros((2, 2)), np.zeros((3, 2)), [0, 1], ["a", "b"])
