"""scikit-learn, scipy and torchmetrics compute the same numbers, wherever they define the same thing.

scikit-learn and scipy to 1e-12. torchmetrics divides in single precision, so its counts are compared
exactly and its ratios to 1e-6. Where it defines another thing under the same name, the test says so.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional import classification as torch_metrics
from torchmetrics.functional.regression import concordance_corrcoef

from serflow.concordance import concordance
from serflow.equal_error import equal_error_rates
from serflow.fold_intervals import fold_mean_interval, wald_half_width
from serflow.metrics import METRICS, confusion
from serflow.significance import mcnemar

EXACT = {"rtol": 0, "atol": 1e-12}
SINGLE = {"rtol": 0, "atol": 1e-6}


@st.composite
def labellings(draw, systems=1):
    """Draw a reference and hypotheses: classes may be missing, and a fold may have a single one."""
    n_classes = draw(st.integers(2, 6))
    n = draw(st.integers(1, 60))
    used = draw(st.integers(1, n_classes))
    reference = draw(st.lists(st.integers(0, used - 1), min_size=n, max_size=n))
    said = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return np.array(reference), *(np.array(draw(said)) for _ in range(systems)), n_classes


SINGLE_CLASS = (np.array([1, 1, 1]), np.array([1, 0, 2]), 4)
NOTHING_RIGHT = (np.array([0, 1]), np.array([1, 0]), 3)


def one_against_the_rest(reference, hypothesis, n_classes) -> float:
    """Mean of 1 - balanced accuracy over the binary problems that have both sides."""
    problems = [(reference == label, hypothesis == label) for label in range(n_classes)]
    values = [
        1 - sklearn_metrics.balanced_accuracy_score(true, said)
        for true, said in problems
        if 0 < true.sum() < len(true)
    ]
    return np.mean(values) if values else np.nan


@given(labellings())
@example(SINGLE_CLASS)
@example(NOTHING_RIGHT)
@settings(max_examples=100)
def test_every_metric_is_scikit_learns(case):
    reference, hypothesis, n_classes = case
    counts = confusion(reference, hypothesis, n_classes)
    occurring = np.unique(reference)
    everything = np.arange(n_classes)
    theirs = {
        "macro_f1": sklearn_metrics.f1_score(
            reference, hypothesis, labels=occurring, average="macro", zero_division=0
        ),
        "micro_f1": sklearn_metrics.f1_score(
            reference, hypothesis, labels=everything, average="micro"
        ),
        "uar": sklearn_metrics.recall_score(
            reference, hypothesis, labels=occurring, average="macro"
        ),
        "wa": sklearn_metrics.accuracy_score(reference, hypothesis),
        "hard_eer": one_against_the_rest(reference, hypothesis, n_classes),
        "recall": sklearn_metrics.recall_score(
            reference, hypothesis, labels=everything, average=None, zero_division=np.nan
        ),
        "precision": sklearn_metrics.precision_score(
            reference, hypothesis, labels=everything, average=None, zero_division=np.nan
        ),
        "f1": sklearn_metrics.f1_score(
            reference, hypothesis, labels=everything, average=None, zero_division=np.nan
        ),
        "confusion": sklearn_metrics.confusion_matrix(reference, hypothesis, labels=everything),
    }
    assert theirs.keys() == METRICS.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(METRICS[name](counts), value, err_msg=name, **EXACT)
    if set(hypothesis) <= set(occurring):  # otherwise it warns, and gives the same
        balanced = sklearn_metrics.balanced_accuracy_score(reference, hypothesis)
        np.testing.assert_allclose(METRICS["uar"](counts), balanced, **EXACT)


@given(labellings())
@example(SINGLE_CLASS)
@example(NOTHING_RIGHT)
@settings(max_examples=50, deadline=None)
def test_torchmetrics_counts_and_ratios_are_ours(case):
    """Its macro average takes in classes that are only said; over those that occur it is ours."""
    reference, hypothesis, n_classes = case
    counts = confusion(reference, hypothesis, n_classes)
    pair = torch.tensor(hypothesis), torch.tensor(reference), n_classes
    theirs = torch_metrics.multiclass_confusion_matrix(*pair).numpy()
    np.testing.assert_array_equal(counts, theirs)
    correct, extra, _, missed, support = torch_metrics.multiclass_stat_scores(*pair, average=None).T
    np.testing.assert_array_equal(np.diagonal(counts), correct)
    np.testing.assert_array_equal(counts.sum(axis=0), correct + extra)
    np.testing.assert_array_equal(counts.sum(axis=1), correct + missed)
    np.testing.assert_array_equal(counts.sum(axis=1), support)
    each = {
        "precision": torch_metrics.multiclass_precision(*pair, average=None),
        "recall": torch_metrics.multiclass_recall(*pair, average=None),
        "f1": torch_metrics.multiclass_f1_score(*pair, average=None),
    }
    for name, values in each.items():  # it gives 0 where the value is undefined
        np.testing.assert_allclose(np.nan_to_num(METRICS[name](counts)), values, **SINGLE)
    micro = torch_metrics.multiclass_f1_score(*pair, average="micro")
    np.testing.assert_allclose(METRICS["micro_f1"](counts), micro, **SINGLE)
    accuracy = torch_metrics.multiclass_accuracy(*pair, average="micro")
    np.testing.assert_allclose(METRICS["wa"](counts), accuracy, **SINGLE)
    occurs = counts.sum(axis=1) > 0
    for whole, name in (("macro_f1", "f1"), ("uar", "recall")):
        np.testing.assert_allclose(METRICS[whole](counts), each[name][occurs].mean(), **SINGLE)
    if set(hypothesis) <= set(reference):
        for whole, theirs in (
            ("macro_f1", torch_metrics.multiclass_f1_score),
            ("uar", torch_metrics.multiclass_accuracy),
        ):
            np.testing.assert_allclose(METRICS[whole](counts), theirs(*pair), **SINGLE)


@given(labellings(systems=2))
@settings(max_examples=50)
def test_the_mean_over_folds_is_that_of_scikit_learns_values(case):
    reference, first, second, n_classes = case
    folds = np.stack([confusion(reference, x, n_classes) for x in (first, second)])
    found = fold_mean_interval(folds, "macro_f1", seed=0, resamples=10)
    theirs = [
        sklearn_metrics.f1_score(
            reference, x, labels=np.unique(reference), average="macro", zero_division=0
        )
        for x in (first, second)
    ]
    np.testing.assert_allclose(found.value, np.mean(theirs), **EXACT)


@given(labellings(systems=2))
@settings(max_examples=100)
def test_mcnemar_is_a_binomial_test_of_the_2_by_2_table(case):
    reference, first, second, _ = case
    table = sklearn_metrics.confusion_matrix(
        first == reference, second == reference, labels=[False, True]
    )
    found = mcnemar(reference, first, second)
    assert (found.only_a, found.only_b) == (table[1, 0], table[0, 1])
    differing = int(table[1, 0] + table[0, 1])
    assume(differing)
    theirs = stats.binomtest(int(table[1, 0]), differing).pvalue
    assert found.p == pytest.approx(theirs, abs=1e-12)


@given(st.floats(0, 1), st.integers(1, 10**6), st.sampled_from([0.8, 0.95, 0.99]))
def test_walds_interval_is_scipys_normal_one(score, n, level):
    half = wald_half_width(score, n, level)
    spread = np.sqrt(score * (1 - score) / n)
    assume(spread > 0)
    low, high = stats.norm.interval(level, loc=score, scale=spread)
    np.testing.assert_allclose([score - half, score + half], [low, high], **EXACT)


@given(st.integers(0, 2**32 - 1), st.integers(2, 50), st.floats(0.1, 3))
@settings(max_examples=50, deadline=None)
def test_concordance_is_torchmetrics_where_the_means_are_equal(seed, n, noise):
    """It divides variances by n - 1 and the means' distance by nothing: apart from that it is ours."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(4, 1, (n, 2))
    predicted = reference + noise * rng.standard_normal((n, 2))
    predicted += reference.mean(axis=0) - predicted.mean(axis=0)
    theirs = concordance_corrcoef(torch.tensor(predicted), torch.tensor(reference))
    np.testing.assert_allclose(concordance(reference, predicted), theirs, **EXACT)


@given(st.integers(0, 2**32 - 1), st.integers(2, 50), st.floats(0.1, 3), st.floats(-2, 2))
def test_concordance_is_made_of_numpys_population_moments(seed, n, noise, shift):
    rng = np.random.default_rng(seed)
    x = rng.normal(4, 1, n)
    y = x + noise * rng.standard_normal(n) + shift
    covariance = np.cov(x, y, ddof=0)
    expected = 2 * covariance[0, 1] / (np.trace(covariance) + (x.mean() - y.mean()) ** 2)
    np.testing.assert_allclose(concordance(x[:, None], y[:, None]), expected, **EXACT)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([2, 5, 1000]),
)
@settings(max_examples=100, deadline=None)
def test_the_equal_error_rate_lies_at_torchmetrics_nearest_point(
    seed, positives, negatives, levels
):
    """It takes the point of the ROC where the rates are closest; ours lies between such points.

    The distance is at most half of what the rates differ by there, and none where they are equal.
    """
    rng = np.random.default_rng(seed)
    truth = np.repeat([1, 0], [positives, negatives])
    scores = (rng.integers(levels, size=truth.size) + levels * truth / 3) / (2 * levels)
    ours = equal_error_rates(np.column_stack([1 - scores, scores]), truth)[1]
    theirs = float(torch_metrics.binary_eer(torch.tensor(scores), torch.tensor(truth)))
    fpr, tpr, _ = sklearn_metrics.roc_curve(truth, scores, drop_intermediate=False)
    apart = np.abs(fpr - (1 - tpr)).min()
    assert abs(ours - theirs) <= apart / 2 + 1e-6


def test_the_equal_error_rate_is_torchmetrics_where_a_threshold_has_equal_errors():
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.15, 0.1])
    theirs = torch_metrics.binary_eer(torch.tensor(scores), torch.tensor(truth))
    ours = equal_error_rates(np.column_stack([1 - scores, scores]), truth)
    np.testing.assert_allclose(ours, [float(theirs)] * 2, **SINGLE)
    assert ours[1] == 0.25
