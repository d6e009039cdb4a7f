"""Metrics: the printed number is the one its definition says, and the one the field computes."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serflow import metrics
from serflow.metrics import METRICS, confusion


@st.composite
def labellings(draw):
    """Draw reference and hypothesis; classes may be missing from either."""
    n_classes = draw(st.integers(2, 6))
    n = draw(st.integers(1, 60))
    labels = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return np.array(draw(labels)), np.array(draw(labels)), n_classes


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(metrics).failed == 0


@given(labellings(), st.randoms())
@settings(max_examples=50)
def test_class_order_does_not_matter(case, random):
    reference, hypothesis, n_classes = case
    renamed = np.array(random.sample(range(n_classes), n_classes))
    for name in ("macro_f1", "micro_f1", "uar", "wa", "hard_eer"):
        np.testing.assert_allclose(
            METRICS[name](confusion(renamed[reference], renamed[hypothesis], n_classes)),
            METRICS[name](confusion(reference, hypothesis, n_classes)),
            atol=1e-12,
        )


@pytest.mark.parametrize("name", METRICS)
def test_a_stack_of_matrices_gives_each_matrix_its_value(name):
    """Folds, grid points and resamples are computed at once; they must not leak into each other."""
    counts = np.random.default_rng(0).integers(0, 9, size=(3, 2, 4, 4))
    counts[0, 0, 1] = 0  # a class without reference utterances
    stacked = METRICS[name](counts)
    assert stacked.shape == (3, 2) + (4,) * METRICS[name].class_axes
    for i, j in np.ndindex(3, 2):
        np.testing.assert_array_equal(stacked[i, j], METRICS[name](counts[i, j]))


def test_rows_are_the_reference():
    """Transposed, recall silently becomes precision."""
    counts = confusion([0, 0, 0, 1], [0, 1, 1, 1], 2)
    np.testing.assert_array_equal(counts, [[1, 2], [0, 1]])
    np.testing.assert_allclose(METRICS["recall"](counts), [1 / 3, 1])
    np.testing.assert_allclose(METRICS["precision"](counts), [1, 1 / 3])


def test_a_class_without_reference_utterances_does_not_lower_the_mean():
    """Ten training classes, eight scored ones: averaging over ten would cost a fifth."""
    counts = confusion([0, 0, 1, 1], [0, 0, 1, 1], n_classes=5)
    assert METRICS["macro_f1"](counts) == METRICS["uar"](counts) == 1
    for name in ("recall", "precision", "f1"):
        np.testing.assert_array_equal(METRICS[name](counts), [1, 1, np.nan, np.nan, np.nan])


def test_a_class_that_is_only_said_has_a_precision_and_no_recall():
    counts = confusion([0, 0, 0], [0, 0, 1], n_classes=2)
    assert METRICS["precision"](counts).tolist() == [1, 0]
    assert METRICS["f1"](counts).tolist() == pytest.approx([0.8, 0])
    np.testing.assert_array_equal(METRICS["recall"](counts), [2 / 3, np.nan])


def test_no_utterances_at_all_is_undefined_not_zero():
    for name in ("macro_f1", "micro_f1", "uar", "wa", "hard_eer"):
        assert np.isnan(METRICS[name](np.zeros((3, 3))))


def test_confusion_of_several_systems_is_that_of_each():
    reference = np.array([0, 1, 2, 2])
    hypotheses = np.array([[[0, 1, 2, 0], [1, 1, 1, 1]]])
    stacked = confusion(reference, hypotheses, 3)
    assert stacked.shape == (1, 2, 3, 3)
    for system in range(2):
        np.testing.assert_array_equal(
            stacked[0, system], confusion(reference, hypotheses[0, system], 3)
        )


@pytest.mark.parametrize(
    ("reference", "hypothesis", "message"),
    [
        ([0, 3], [0, 1], "reference holds 3 in row 1; expected 0 to 2"),
        ([0, 1], [-1, 1], "hypothesis holds -1 in row 0"),
        ([0, 1], [0.0, 1.0], "hypothesis holds float64; expected integer"),
        ([0, 1], [0, 1, 2], r"reference has shape \(2,\) and hypothesis \(3,\)"),
    ],
)
def test_labels_that_are_not_class_indices_are_named(reference, hypothesis, message):
    """A label of another class order would land in a neighbouring cell without a word."""
    with pytest.raises(ValueError, match=message):
        confusion(reference, hypothesis, 3)


def test_lower_is_better_only_for_error_rates():
    """Maximised, the worst system would stand in bold."""
    counts = confusion([0, 0, 1, 1], [0, 1, 1, 1], 2), confusion([0, 0, 1, 1], [0, 0, 1, 1], 2)
    for metric in METRICS.values():
        if metric.class_axes == 0:
            worse, perfect = map(metric, counts)
            assert (perfect < worse) == metric.lower_is_better


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.definition.endswith(".")
