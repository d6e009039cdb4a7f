"""Equal error rates: of scores, and of the hard decisions that one paper gives under that name."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from serflow import equal_error
from serflow.equal_error import equal_error_interval, equal_error_rates
from serflow.metrics import METRICS

# "Efficient fine-tuning approaches on HuBERT for speech emotion recognition on multiple labels",
# Tables 4 to 6, in per cent of the row, as printed.
PRINTED = {
    "full": """
        96.99  0.00  1.10  1.10  0.55  0.27  0.00  0.00
         0.00 89.74  0.00  0.00  0.00 10.26  0.00  0.00
         4.77  0.00 82.16  2.51  3.77  2.01  4.52  0.25
         2.01  0.00  2.76 76.94  6.52  2.76  8.02  1.00
         2.65  0.27  0.53  1.86 90.45  3.71  0.27  0.27
         0.31  0.00  0.00  0.00  1.57 98.11  0.00  0.00
         0.76  0.00  3.82  9.41  1.53 13.23 71.25  0.00
         0.70  0.00  0.00  0.00  2.80  0.00  0.00 96.50""",
    "qkv": """
        92.88  0.00  1.64  0.27  1.92  1.37  0.00  1.92
         0.00 84.62  0.00  0.00  0.00  0.00 15.38  0.00
         9.30  1.26 64.57  0.75  2.51 16.33  3.27  2.01
         5.01  0.75  2.01 42.86 17.54 15.54 13.78  2.51
        11.67  2.92  2.12  2.65 59.42 13.26  1.59  6.37
         1.57  7.55  0.00  0.00  0.94 88.99  0.94  0.00
         1.02  4.83  3.05  2.54  1.78 35.62 49.87  1.27
         1.40  0.70  0.70  0.00  4.90  1.40  0.00 90.91""",
    "classifier": """
        84.38  0.00  3.84  0.82  1.64  8.77  0.27  0.27
         0.00 92.31  0.00  0.00  0.00  2.56  5.13  0.00
        14.82  2.01 38.44  1.26  0.75 23.87 18.09  0.75
        15.29  1.25  1.75 20.05  8.52 24.56 27.82  0.75
        29.71  4.77 11.94  3.98  4.51 33.69  6.37  5.04
         1.26  7.23  0.31  0.31  0.00 87.11  3.77  0.00
         0.51  5.34  2.80  3.31  0.76 46.31 40.97  0.00
        24.48  8.39 10.49  2.80  0.70 16.08  0.00 37.06""",
}
# The only row totals for which all three tables are whole numbers and Table 3's accuracies come
# out; their sum, 2,432, is 20 % of the 12,162 utterances of Table 2.
TOTALS = np.array([365, 39, 398, 399, 377, 318, 393, 143])
ACCURACY = {"full": "0.8610", "qkv": "0.67146", "classifier": "0.4461"}
HARD_EER = {"full": "0.0713", "qkv": "0.164", "classifier": "0.2870"}
MACRO_F1 = {"full": 0.8765, "qkv": 0.6583, "classifier": 0.4161}


def published(system: str) -> np.ndarray:
    """Counts of a printed table, from its percentages and the row totals."""
    shares = np.array(PRINTED[system].split(), dtype=float).reshape(8, 8)
    counts = np.rint(shares * TOTALS[:, None] / 100).astype(int)
    np.testing.assert_array_equal(counts.sum(axis=1), TOTALS)
    np.testing.assert_allclose(100 * counts / TOTALS[:, None], shares, atol=0.005)
    return counts


def truncated(value: float, like: str) -> str:
    """A number cut, not rounded, to the digits of another."""
    digits = len(like) - 2
    return f"0.{int(value * 10**digits):0{digits}}"


@pytest.mark.parametrize("system", PRINTED)
def test_published_matrices_give_the_published_numbers(system):
    """Table 3: "F1" is the micro-F1, and "EER" the mean of (FPR + FNR) / 2, cut to its digits."""
    counts = published(system)
    assert counts.sum() == 2432 == round(0.2 * 12_162)
    assert truncated(METRICS["wa"](counts), ACCURACY[system]) == ACCURACY[system]
    assert METRICS["micro_f1"](counts) == METRICS["wa"](counts)
    assert truncated(METRICS["hard_eer"](counts), HARD_EER[system]) == HARD_EER[system]
    assert METRICS["macro_f1"](counts) == pytest.approx(MACRO_F1[system], abs=5e-5)


def test_the_example_in_the_documentation_runs():
    assert doctest.testmod(equal_error).failed == 0


def along_the_roc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Where scikit-learn's ROC, its points joined by lines, crosses FPR = FNR."""
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    gap = (1 - tpr) - fpr
    after = int(np.argmax(gap <= 0))
    if gap[after] == gap[after - 1]:
        return fpr[after]
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return fpr[after - 1] + share * (fpr[after] - fpr[after - 1])


@st.composite
def scored(draw):
    """Draw scores, many of them equal, and labels that may lack a class."""
    n_classes, n = draw(st.integers(2, 4)), draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 5, 1000]))
    reference = rng.integers(draw(st.integers(1, n_classes)), size=n)
    scores = rng.integers(levels, size=(n, n_classes)) + levels / 3 * np.eye(n_classes)[reference]
    return scores, reference


@given(scored())
@settings(max_examples=200)
def test_rates_are_where_scikit_learns_roc_has_equal_errors(case):
    scores, reference = case
    rates = equal_error_rates(scores, reference)
    for label, rate in enumerate(rates):
        positive = reference == label
        if 0 < positive.sum() < len(positive):
            assert rate == pytest.approx(along_the_roc(scores[:, label], positive), abs=1e-12)
        else:
            assert np.isnan(rate)


def test_known_curves():
    reference = [0, 0, 1, 1]
    assert equal_error_rates(np.eye(2)[reference], reference) == pytest.approx([0, 0])
    assert equal_error_rates(1 - np.eye(2)[reference], reference) == pytest.approx([1, 1])
    # A system that says the same of every utterance is a coin, whatever the priors.
    assert equal_error_rates(np.zeros((5, 2)), [0, 0, 0, 0, 1]) == pytest.approx([0.5, 0.5])


def test_the_rate_does_not_depend_on_the_scale_of_the_scores():
    rng = np.random.default_rng(0)
    posteriors = rng.dirichlet([1, 1, 1], size=50)
    reference = rng.integers(3, size=50)
    np.testing.assert_array_equal(
        equal_error_rates(posteriors, reference), equal_error_rates(np.log(posteriors), reference)
    )


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("levels", [6, 10**6])
def test_resamples_drawn_as_weights_are_those_of_repeated_rows(clustered, levels):
    """Scores far from the crossing enter as sums: no resample may be cut short by that."""
    rng = np.random.default_rng(1)
    reference = np.repeat([0, 1, 2], [60, 30, 2])  # the last class is lost in many resamples
    scores = rng.integers(levels, size=(92, 3)) + levels / 2 * np.eye(3)[reference]
    clusters = rng.integers(6, size=92) if clustered else None
    unit = np.arange(92) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    n_units = unit.max() + 1
    values = []
    draws = np.random.default_rng(7).integers(n_units, size=(150, n_units))
    for drawn in draws:
        rows = np.concatenate([np.flatnonzero(unit == one) for one in drawn])
        values.append(np.nanmean(equal_error_rates(scores[rows], reference[rows])))
    found = equal_error_interval(scores, reference, seed=7, clusters=clusters, resamples=150)
    assert found.value == pytest.approx(np.mean(equal_error_rates(scores, reference)))
    assert [found.low, found.high] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-9)


def test_one_class_alone_has_no_rate():
    found = equal_error_interval(np.zeros((5, 2)), [0] * 5, seed=0, resamples=10)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.n == 5


@pytest.mark.parametrize(
    ("scores", "reference", "message"),
    [
        ([[0.5, np.nan]], [0], "1 NaN"),
        ([0.5], [0], r"shape \(1,\)"),
        ([[0.5, 0.5]], [0, 1], r"reference has shape \(2,\); expected \(1,\)"),
        ([[0.5, 0.5]], [2], "reference holds 2 in row 0; expected 0 to 1"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(scores, reference, message):
    with pytest.raises(ValueError, match=message):
        equal_error_rates(scores, reference)


def test_one_speaker_cannot_be_resampled():
    with pytest.raises(ValueError, match="nothing to resample"):
        equal_error_interval(np.eye(2), [0, 1], seed=0, clusters=["a", "a"])
