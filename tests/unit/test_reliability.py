"""Reliability: metrics are what others define, and intervals hold the truth, 0 too."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from serflow.equal_error import ScoreMetric
from serflow.reliability import (
    RELIABILITY,
    calibration_errors,
    costs,
    expected_cost,
    interval,
    metric,
    reliability_curve,
    reliability_interval,
)

ERRORS = ["ece", "ece_mass", "classwise_ece"]


def simulated(n, n_classes=4, sharpness=1.0, seed=0):
    """Posteriors; of sharpness 1 the labels are drawn from them, so that they are calibrated."""
    rng = np.random.default_rng(seed)
    scores = 1.5 * rng.normal(size=(n, n_classes))
    chances = np.exp(log_softmax(scores, axis=1)).cumsum(axis=1)
    reference = (rng.random((n, 1)) > chances[:, :-1]).sum(axis=1)
    return log_softmax(sharpness * scores, axis=1), reference


@st.composite
def cases(draw):
    """Draw posteriors with ties, one-hot rows and impossible classes; labels may lack classes."""
    n_classes, n = draw(st.integers(2, 5)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.integers(draw(st.integers(0, 1)), 4, size=(n, n_classes)).astype(float)
    one_hot = (rng.random(n) < draw(st.sampled_from([0, 0.5, 1]))) | ~weights.any(axis=1)
    weights[one_hot] = np.eye(n_classes)[rng.integers(n_classes, size=one_hot.sum())]
    with np.errstate(divide="ignore"):
        logs = np.log(weights / weights.sum(axis=1, keepdims=True))
    return logs, rng.integers(draw(st.integers(1, n_classes)), size=n)


@pytest.mark.parametrize("module", [calibration_errors, costs, interval, metric])
def test_the_examples_in_the_documentation_run(module):
    assert doctest.testmod(module).failed == 0


def test_every_metric_comes_with_its_definition():
    assert list(RELIABILITY) == ["nll", "brier", *ERRORS, "normalised_cost"]
    for found in RELIABILITY.values():
        assert isinstance(found, ScoreMetric)
        assert found.definition.endswith(".")
        assert found.lower_is_better


@given(cases())
@settings(max_examples=100, deadline=None)
def test_proper_scores_are_those_of_scikit_learn(case):
    logs, reference = case
    labels = np.arange(logs.shape[1])
    # Where it is 0 scikit-learn takes the smallest float of its own; ours is 1e-10.
    floored = np.maximum(np.exp(logs), 1e-10)
    if np.isfinite(logs).all():
        expected = log_loss(reference, np.exp(logs), labels=labels)
        assert RELIABILITY["nll"](logs, reference) == pytest.approx(expected, abs=1e-12)
    else:
        expected = -np.log(floored[np.arange(len(reference)), reference]).mean()
        assert RELIABILITY["nll"](logs, reference) == pytest.approx(expected, abs=1e-12)
    expected = brier_score_loss(reference, np.exp(logs), labels=labels, scale_by_half=False)
    assert RELIABILITY["brier"](logs, reference) == pytest.approx(expected, abs=1e-12)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_one_hot_rows_ties_and_absent_classes_have_finite_values_in_range(case):
    logs, reference = case
    values = {name: found(logs, reference) for name, found in RELIABILITY.items()}
    assert 0 <= values["nll"] <= np.log(1e10) + 1e-9
    assert 0 <= values["brier"] <= 2
    for name in ERRORS:
        assert 0 <= values[name] <= 1
    shares = np.bincount(reference) / len(reference)
    wrong = (logs.argmax(axis=1) != reference).mean()
    if shares.max() < 1:
        assert values["normalised_cost"] == pytest.approx(wrong / (1 - shares.max()))
    else:
        assert np.isnan(values["normalised_cost"])


@given(cases(), st.sampled_from(["uniform", "quantile"]), st.integers(1, 15))
@settings(max_examples=200, deadline=None)
def test_the_curve_of_a_class_is_that_of_scikit_learn(case, theirs, bins):
    logs, reference = case
    strategy = {"uniform": "equal_width", "quantile": "equal_mass"}[theirs]
    posterior = np.minimum(np.exp(logs[:, 1]), 1.0)
    share, mean = calibration_curve(
        reference == 1, posterior, n_bins=bins, strategy=theirs, pos_label=True
    )
    ours = reliability_curve(logs, reference, bins, strategy, label=1)
    filled = ours[ours["n"] > 0]
    np.testing.assert_allclose(filled["accuracy"], share, atol=1e-12)
    np.testing.assert_allclose(filled["confidence"], mean, atol=1e-12)
    assert ours["n"].sum() == len(reference)
    assert len(ours) == bins
    assert ours.loc[ours["n"] == 0, ["accuracy", "confidence"]].isna().all(axis=None)


@pytest.mark.parametrize("n_classes", [2, 4, 8])
@pytest.mark.parametrize("sharpness", [1.0, 3.0])
def test_the_error_of_equal_widths_is_that_of_torchmetrics(n_classes, sharpness):
    """They differ just at the ends of bins: theirs hold the lower one, ours the upper one."""
    import torch
    from torchmetrics.classification import MulticlassCalibrationError
    from torchmetrics.functional.classification.calibration_error import _ce_compute

    logs, reference = simulated(2000, n_classes, sharpness)
    ours = RELIABILITY["ece"](logs, reference)
    top, right = np.exp(logs.max(axis=1)), logs.argmax(axis=1) == reference
    # The public metric rounds to single precision; what it computes with does not.
    theirs = _ce_compute(
        torch.tensor(top),
        torch.tensor(right, dtype=torch.float64),
        torch.linspace(0, 1, 16, dtype=torch.float64),
        norm="l1",
    )
    assert ours == pytest.approx(theirs.item(), abs=1e-12)
    public = MulticlassCalibrationError(n_classes, n_bins=15, norm="l1")(
        torch.tensor(np.exp(logs)), torch.tensor(reference)
    )
    assert ours == pytest.approx(public.item(), abs=1e-6)


@pytest.mark.parametrize(("name", "strategy"), [("ece", "equal_width"), ("ece_mass", "equal_mass")])
def test_the_error_is_the_diagrams_mean_distance_from_the_diagonal(name, strategy):
    logs, reference = simulated(700, sharpness=2.0)
    curve = reliability_curve(logs, reference, 15, strategy).dropna()
    gaps = (curve["accuracy"] - curve["confidence"]).abs()
    assert RELIABILITY[name](logs, reference) == pytest.approx(np.average(gaps, weights=curve["n"]))
    if strategy == "equal_mass":
        assert curve["n"].max() - curve["n"].min() <= 1


def test_the_classwise_error_is_the_mean_over_the_curves_of_all_classes():
    """A class that never occurs still counts: posteriors for it are errors."""
    logs, reference = simulated(500, sharpness=2.0)
    reference = np.where(reference == 3, 0, reference)
    errors = []
    for label in range(4):
        curve = reliability_curve(logs, reference, label=label).dropna()
        gaps = (curve["accuracy"] - curve["confidence"]).abs()
        errors.append(np.average(gaps, weights=curve["n"]))
    assert RELIABILITY["classwise_ece"](logs, reference) == pytest.approx(np.mean(errors))


def test_known_values():
    """Four utterances, 90 % sure and right in three; by hand."""
    logs, reference = np.log([[0.9, 0.1]] * 4), [0, 0, 0, 1]
    expected = {
        "nll": -(3 * np.log(0.9) + np.log(0.1)) / 4,
        "brier": (3 * 2 * 0.1**2 + 2 * 0.9**2) / 4,
        "ece": 0.15,
        "ece_mass": 0.15,
        "classwise_ece": 0.15,
        "normalised_cost": 1.0,
    }
    for name, value in expected.items():
        assert RELIABILITY[name](logs, reference) == pytest.approx(value), name


def test_decisions_follow_the_costs():
    """Missed anger costs ten times a false alarm: a tenth of posterior is enough to say it."""
    anger_first = [[0, 10], [1, 0]]
    logs, reference = np.log([[0.2, 0.8], [0.05, 0.95], [0.9, 0.1]]), [1, 1, 0]
    # Says anger, other, anger: one false alarm, of 1; the best blind decision, always anger, costs 2.
    assert expected_cost(anger_first)(logs, reference) == pytest.approx(1 / 2)
    abstain = expected_cost([[0, 1, 0.1], [1, 0, 0.1]])
    unsure = np.log([[0.5, 0.5], [0.99, 0.01]])
    # Abstains from the first (0.1), decides the second; blindly: class 0 costs 1, abstaining 0.2.
    assert abstain(unsure, [1, 0]) == pytest.approx(0.1 / 0.2)
    zero_one = expected_cost(1 - np.eye(4))
    logs, reference = simulated(300)
    assert zero_one(logs, reference) == RELIABILITY["normalised_cost"](logs, reference)


def test_the_uniform_posterior_costs_as_much_as_it_should():
    logs = np.log(np.full((8, 4), 0.25))
    reference = np.arange(8) % 4
    assert RELIABILITY["nll"](logs, reference) == pytest.approx(np.log(4))
    assert RELIABILITY["brier"](logs, reference) == pytest.approx(0.75)
    assert RELIABILITY["ece"](logs, reference) == pytest.approx(0)
    assert RELIABILITY["normalised_cost"](logs, reference) == pytest.approx(1)


@pytest.mark.parametrize("clustered", [False, True])
def test_resamples_drawn_as_sums_are_those_of_repeated_rows(clustered):
    logs, reference = simulated(90)
    order = np.lexsort((reference, *logs.T))
    logs, reference = logs[order], reference[order]
    clusters = np.arange(90) % 7 if clustered else None
    unit = np.arange(90) if clusters is None else clusters
    draws = np.random.default_rng(7).integers(unit.max() + 1, size=(200, unit.max() + 1))
    names = ["nll", "brier", "normalised_cost"]
    values = []
    for drawn in draws:
        rows = np.concatenate([np.flatnonzero(unit == one) for one in drawn])
        values.append([RELIABILITY[name](logs[rows], reference[rows]) for name in names])
    found = reliability_interval(logs, reference, seed=7, clusters=clusters, resamples=200)
    ends = np.quantile(values, [0.025, 0.975], axis=0)
    for name, (low, high) in zip(names, ends.T, strict=True):
        assert found[name].value == RELIABILITY[name](logs, reference)
        assert [found[name].low, found[name].high] == pytest.approx([low, high], rel=1e-5)


def test_intervals_of_means_are_the_normal_ones():
    logs, reference = simulated(4000)
    found = reliability_interval(logs, reference, seed=0, resamples=4000)["nll"]
    half = 1.96 * logs[np.arange(4000), reference].std() / np.sqrt(4000)
    assert [found.low, found.high] == pytest.approx(
        [found.value - half, found.value + half], abs=half / 10
    )


@pytest.mark.parametrize("sharpness", [1.0, 1.15, 2.0])
@pytest.mark.parametrize("n", [150, 1500])
def test_intervals_of_calibration_errors_hold_the_true_error(sharpness, n):
    """Plain percentiles hold the 0 of a calibrated system in no case of a hundred."""
    many, labels = simulated(400_000, sharpness=sharpness, seed=1)
    chosen = [RELIABILITY[name] for name in ("ece", "classwise_ece")]
    truth = {one.name: one(many, labels) for one in chosen}
    held = dict.fromkeys(truth, 0)
    for seed in range(100):
        logs, reference = simulated(n, sharpness=sharpness, seed=100 + seed)
        found = reliability_interval(logs, reference, seed=seed, resamples=200, metrics=chosen)
        for name, one in found.items():
            assert one.low <= one.value <= one.high
            held[name] += one.low <= truth[name] + 0.002 and truth[name] - 0.002 <= one.high
    assert min(held.values()) >= 90


def test_speakers_that_differ_widen_every_interval():
    logs, reference = simulated(1000, n_classes=2)
    speakers = np.arange(1000) // 50
    reference = np.where(speakers % 2 == 0, logs.argmax(axis=1), logs.argmin(axis=1))
    alone = reliability_interval(logs, reference, seed=0, resamples=500)
    together = reliability_interval(logs, reference, seed=0, clusters=speakers, resamples=500)
    for name in RELIABILITY:
        widths = [one[name].high - one[name].low for one in (alone, together)]
        assert widths[1] > 1.5 * widths[0], name


@pytest.mark.parametrize("clustered", [False, True])
def test_the_order_of_the_rows_does_not_change_an_interval(clustered):
    """Tables come back from the cluster in another order; the report must not change."""
    logs, reference = simulated(300)
    speakers = np.arange(300) % 11 if clustered else None
    shuffled = np.random.default_rng(0).permutation(300)
    again = None if speakers is None else speakers[shuffled]
    first = reliability_interval(logs, reference, seed=3, clusters=speakers, resamples=100)
    second = reliability_interval(
        logs[shuffled], reference[shuffled], seed=3, clusters=again, resamples=100
    )
    assert first == second


@given(cases())
@settings(max_examples=50, deadline=None)
def test_any_posteriors_have_intervals(case):
    logs, reference = case
    found = reliability_interval(logs, reference, seed=0, resamples=20)
    for name in ERRORS:
        assert (
            0 <= found[name].low <= found[name].value + 1e-9 <= found[name].high + 2e-9 <= 1 + 2e-9
        )
    assert np.isfinite(
        [found[name].high for name in RELIABILITY if name != "normalised_cost"]
    ).all()
    assert all(one.n == len(reference) for one in found.values())


@pytest.mark.parametrize(
    ("logs", "reference", "message"),
    [
        ([[0.5, 0.5]], [0], "row 0 holds no log-posteriors"),
        (np.log([[0.5, np.nan]]), [0], "row 0 holds no log-posteriors"),
        (np.log([[0.5, 0.5]]), [0, 1], r"reference has shape \(2,\); expected \(1,\)"),
        (np.log([[0.5, 0.5]]), [2], "reference holds 2 in row 0; expected 0 to 1"),
        (np.zeros((0, 2)), np.zeros(0, int), "at least one utterance"),
    ],
)
def test_what_is_no_posterior_is_refused(logs, reference, message):
    for function in (
        RELIABILITY["ece"],
        reliability_curve,
        lambda *rows: reliability_interval(*rows, seed=0),
    ):
        with pytest.raises(ValueError, match=message):
            function(logs, reference)


def test_settings_out_of_range_are_refused():
    logs, reference = simulated(20)
    with pytest.raises(ValueError, match="bins is 0"):
        reliability_curve(logs, reference, bins=0)
    with pytest.raises(ValueError, match="strategy is 'uniform'; expected equal_width"):
        reliability_curve(logs, reference, strategy="uniform")
    with pytest.raises(ValueError, match="label holds 4 in row 0; expected 0 to 3"):
        reliability_curve(logs, reference, label=4)
    with pytest.raises(ValueError, match="must be finite and at least 0"):
        expected_cost([[0, -1], [1, 0]])
    with pytest.raises(ValueError, match="costs have 2 rows; expected one a class, 4"):
        expected_cost([[0, 1], [1, 0]])(logs, reference)
    with pytest.raises(ValueError, match="clusters have shape"):
        reliability_interval(logs, reference, seed=0, clusters=["a"])
    with pytest.raises(ValueError, match="nothing to resample"):
        reliability_interval(logs, reference, seed=0, clusters=["a"] * 20)
