"""Whole tables through rebalancing, calibration and fusion: nothing is chosen on test rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from noisy_systems import SPEAKERS, both, system
from serflow.calibration import restore
from serflow.errors import UserError
from serflow.rebalancing import rebalance
from serflow.recalibration import calibrate
from serflow.stacking import fuse, make_fusion

INTERPOLATION = {"method": "linear_interpolation", "step": 0.05, "objective": "macro_f1"}
REGRESSION = {"method": "logistic_regression", "C": 1.0}
LOG_LINEAR = INTERPOLATION | {"method": "log_linear_interpolation"}


def permuted(posteriors, chosen, seed=0):
    """The same table with the reference labels of some rows shuffled."""
    rows = posteriors.rows.copy()
    rng = np.random.default_rng(seed)
    rows.loc[chosen, "label"] = rng.permutation(rows.loc[chosen, "label"].to_numpy())
    return replace(posteriors, rows=rows)


@pytest.mark.parametrize("settings", [INTERPOLATION, LOG_LINEAR, REGRESSION])
def test_permuting_test_labels_changes_no_choice_of_a_dev_fitted_fusion(settings):
    systems = both()
    test = (systems["one"].rows["role"] == "test").to_numpy()
    spoilt = {name: permuted(table, test) for name, table in systems.items()}
    fused, learnt = fuse(systems, "f", "dev", lambda: make_fusion(settings), SPEAKERS)
    other, other_learnt = fuse(spoilt, "f", "dev", lambda: make_fusion(settings), SPEAKERS)
    np.testing.assert_array_equal(fused.log_proba, other.log_proba)
    assert learnt == other_learnt


@pytest.mark.parametrize("settings", [INTERPOLATION, LOG_LINEAR, REGRESSION])
def test_permuting_a_folds_labels_does_not_reach_that_folds_cross_fitted_fusion(settings):
    systems = both(folds=("0", "1", "2"), roles=("test",))
    own = (systems["one"].rows["fold"] == "1").to_numpy()
    spoilt = {name: permuted(table, own) for name, table in systems.items()}
    fused, _ = fuse(systems, "f", "cross_fit", lambda: make_fusion(settings), SPEAKERS)
    other, _ = fuse(spoilt, "f", "cross_fit", lambda: make_fusion(settings), SPEAKERS)
    np.testing.assert_array_equal(fused.log_proba[own], other.log_proba[own])
    if settings is REGRESSION:  # a grid may well choose the same point
        assert not np.array_equal(fused.log_proba[~own], other.log_proba[~own])


def test_a_log_linear_fusion_expresses_the_geometric_mean_of_the_priors():
    """Rebalancing from the arithmetic mean would shift by the wrong ratio."""
    systems = both()
    other = np.array([0.2, 0.2, 0.6])
    systems["two"] = replace(systems["two"], priors={"0": other})
    fused, learnt = fuse(systems, "f", "dev", lambda: make_fusion(LOG_LINEAR), SPEAKERS)
    first, second = learnt["fits"][0]["weights"]
    pooled = systems["one"].priors["0"] ** first * other**second
    np.testing.assert_allclose(fused.priors["0"], pooled / pooled.sum())


def test_cross_fitted_weights_are_not_scored_on_speakers_that_fitted_them():
    """Folds of a random split share speakers; weights fitted over folds would know them."""
    systems = both(folds=("0", "1", "2"), roles=("test",))
    shared = SPEAKERS.assign(
        speaker=[f"s{int(x.split('-')[-1]) % 7}" for x in SPEAKERS["utterance_id"]]
    )
    rows = systems["one"].rows.merge(shared, on="utterance_id")
    own = (rows["speaker"] == "s3").to_numpy()
    fused, learnt = fuse(systems, "f", "cross_fit", lambda: make_fusion(REGRESSION), shared)
    assert {fit["part"] for fit in learnt["fits"]} == {f"part-{i}" for i in range(5)}
    spoilt = {name: permuted(table, own) for name, table in systems.items()}
    other, _ = fuse(spoilt, "f", "cross_fit", lambda: make_fusion(REGRESSION), shared)
    np.testing.assert_array_equal(fused.log_proba[own], other.log_proba[own])
    assert not np.array_equal(fused.log_proba[~own], other.log_proba[~own])
    for prior in fused.priors.values():
        assert prior.sum() == pytest.approx(1)


@pytest.mark.parametrize("method", ["mean", "majority"])
def test_a_baseline_fuses_dev_and_test_rows_and_learns_nothing(method):
    fused, learnt = fuse(both(), "f", "nothing", lambda: make_fusion({"method": method}), SPEAKERS)
    assert set(fused.rows["role"]) == {"dev", "test"}
    assert learnt == {"filled": {}, "fits": []}
    np.testing.assert_allclose(fused.priors["0"], [0.6, 0.3, 0.1])


def test_an_utterance_that_a_system_lacks_is_an_error_or_gets_its_prior_as_declared():
    """Positions would shift by one, or the row vanish without a word."""
    systems = both()
    two = systems["two"]
    kept = np.arange(len(two.rows)) != 70  # a test row
    cut = replace(two, rows=two.rows[kept].reset_index(drop=True), log_proba=two.log_proba[kept])
    lacking = systems | {"two": cut}

    def fused_by(missing):
        return fuse(lacking, "f", "dev", lambda: make_fusion(INTERPOLATION), SPEAKERS, missing)

    with pytest.raises(UserError, match=r"one and two do not cover the same utterances.*0-test-10"):
        fused_by("error")
    fused, learnt = fused_by("prior")
    assert learnt["filled"] == {"two": 1}
    whole, _ = fuse(systems, "f", "dev", lambda: make_fusion(INTERPOLATION), SPEAKERS)
    there = (fused.rows["utterance_id"] != "c/0-test-10").to_numpy()
    np.testing.assert_array_equal(fused.log_proba[there], whole.log_proba[there])
    (weights,) = (fit["weights"] for fit in learnt["fits"])
    one = np.exp(systems["one"].log_proba[70])
    expected = weights[0] * one + weights[1] * two.priors["0"]
    np.testing.assert_allclose(np.exp(fused.log_proba[~there][0]), expected)
    # Lacked by the first system: the rows of all are there, in one order.
    turned = {"two": cut, "one": systems["one"]}
    again, learnt = fuse(
        turned, "f", "nothing", lambda: make_fusion({"method": "mean"}), SPEAKERS, "prior"
    )
    assert learnt["filled"] == {"two": 1}
    assert set(again.rows["utterance_id"]) == set(fused.rows["utterance_id"])


def test_a_fold_without_dev_rows_is_an_error_and_not_a_fit_on_test():
    with pytest.raises(UserError, match="no dev rows"):
        fuse(both(roles=("test",)), "f", "dev", lambda: make_fusion(INTERPOLATION), SPEAKERS)


def test_each_fold_is_rebalanced_from_its_own_training_prior():
    table = system("s", 1.0, 3, folds=("0", "1"))
    table = replace(table, priors={**table.priors, "1": np.full(3, 1 / 3)})
    moved = rebalance(table, "uniform")
    fold = table.rows["fold"].to_numpy()
    np.testing.assert_allclose(moved.log_proba[fold == "1"], table.log_proba[fold == "1"])
    gain = np.exp(moved.log_proba - table.log_proba)[fold == "0"]
    assert (gain[:, 2] > gain[:, 0]).all(), "a class that training saw rarely gains"
    np.testing.assert_allclose(moved.priors["0"], 1 / 3)


def test_a_class_absent_from_training_cannot_be_rebalanced_silently():
    table = replace(system("s", 1.0, 3), priors={"0": np.array([0.7, 0.3, 0.0])})
    with pytest.raises(UserError, match="fold 0 cannot be rebalanced"):
        rebalance(table, "uniform")


@pytest.mark.parametrize("method", ["temperature", "vector", "matrix", "isotonic"])
@pytest.mark.parametrize("fit_on", ["dev", "cross_fit"])
def test_no_row_is_calibrated_by_its_own_label(method, fit_on):
    roles = ("dev", "test") if fit_on == "dev" else ("test",)
    table = system("s", 1.5, 1, folds=("0", "1", "2"), roles=roles)
    own = ((table.rows["fold"] == "1") & (table.rows["role"] == "test")).to_numpy()
    found, fits = calibrate(table, method, fit_on, SPEAKERS)
    other, _ = calibrate(permuted(table, own), method, fit_on, SPEAKERS)
    one = ((found.rows["fold"] == "1") & (found.rows["role"] == "test")).to_numpy()
    np.testing.assert_array_equal(found.log_proba[one], other.log_proba[one])
    assert [fit["part"] for fit in fits] == ["0", "1", "2"]
    restored = restore(method, json.loads(json.dumps(fits[1]["learnt"])))
    np.testing.assert_array_equal(
        restored.predict_log_proba(table.log_proba[own]), found.log_proba[one]
    )


def test_a_temperature_keeps_the_prior_and_other_calibrations_take_on_that_of_their_rows():
    """Rebalanced from the wrong prior, calibrated posteriors would be skewed the other way."""
    table = system("s", 1.5, 1)
    kept, _ = calibrate(table, "temperature", "dev", SPEAKERS)
    np.testing.assert_array_equal(kept.priors["0"], table.priors["0"])
    taken, _ = calibrate(table, "vector", "dev", SPEAKERS)
    np.testing.assert_allclose(taken.priors["0"], np.full(3, 1 / 3))


def test_a_calibration_without_dev_rows_is_an_error():
    with pytest.raises(UserError, match="fold 0 has no dev rows to fit on; set fit_on: cross_fit"):
        calibrate(system("s", 1.5, 1, roles=("test",)), "temperature", "dev", SPEAKERS)
