"""Whole tables through rebalancing, fusion and evaluation: nothing is chosen on test rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from serflow.calibration import restore
from serflow.equal_error import equal_error_rates
from serflow.errors import UserError
from serflow.evaluation.comparisons import compare
from serflow.evaluation.posteriors import score_posteriors
from serflow.evaluation.rows import Evaluation
from serflow.evaluation.transcripts import score_transcripts
from serflow.metrics import METRICS, confusion
from serflow.posteriors import Posteriors
from serflow.rebalancing import rebalance
from serflow.recalibration import calibrate
from serflow.reliability import RELIABILITY
from serflow.report.fold_tables import fold_table
from serflow.significance import holm
from serflow.stacking import fuse, make_fusion
from serflow.tables import COMPARISONS, SCORES

CLASSES = ("angry", "happy", "sad")
INTERPOLATION = {"method": "linear_interpolation", "step": 0.05, "objective": "macro_f1"}
REGRESSION = {"method": "logistic_regression", "C": 1.0}
LOG_LINEAR = INTERPOLATION | {"method": "log_linear_interpolation"}


SPEAKERS = pd.DataFrame(
    [
        (f"c/{fold}-{role}-{i}", "c", f"{role}-{fold}-{i % 5}")
        for fold in "012"
        for role in ("dev", "test")
        for i in range(60)
    ],
    columns=["utterance_id", "corpus", "speaker"],
)


def system(name, noise, seed, folds=("0",), roles=("dev", "test"), n=60):
    """Noisy posteriors of utterances whose labels all systems share."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [
            (f"c/{fold}-{role}-{i}", name, fold, role, CLASSES[i % 3])
            for fold in folds
            for role in roles
            for i in range(n)
        ],
        columns=["utterance_id", "system", "fold", "role", "label"],
    )
    truth = np.eye(3)[rows["label"].map(CLASSES.index)]
    scores = 2 * truth + noise * rng.standard_normal((len(rows), 3))
    priors = {fold: np.array([0.6, 0.3, 0.1]) for fold in folds}
    return Posteriors(rows, log_softmax(scores, axis=1), CLASSES, priors, 1, name)


def both(**kwargs):
    return {"one": system("one", 1.5, 1, **kwargs), "two": system("two", 1.5, 2, **kwargs)}


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


def evaluation(utterances, **kwargs):
    return Evaluation("demo", utterances, resamples=200, seed=0, **{"unit": "utterance", **kwargs})


def test_every_score_has_definition_interval_and_n_and_the_papers_value(tmp_path):
    table = system("s", 1.5, 1)
    utterances = pd.DataFrame(
        {"utterance_id": table.rows["utterance_id"], "corpus": "c", "speaker": "x"}
    )
    paper = {"system": "s", "stage": "raw", "metric": "macro_f1", "value": 0.5, "source": "T1"}
    rows = score_posteriors(evaluation(utterances, paper_values=[paper]), table, "s", "raw")
    frame = pd.DataFrame(rows)
    SCORES.write(frame, tmp_path / "scores.parquet")
    assert set(frame["metric"]) == {*METRICS, "eer", *RELIABILITY}
    eer = frame[frame["metric"] == "eer"].set_index("role").loc["test"]
    test = (table.rows["role"] == "test").to_numpy()
    rates = equal_error_rates(table.log_proba[test], table.labels[test])
    assert eer["value"] == pytest.approx(rates.mean())
    assert eer["low"] < eer["value"] < eer["high"]
    assert frame["definition"].str.len().min() > 20
    assert (frame["n"] == 60).all()
    whole = frame[frame["metric"] == "macro_f1"].set_index("role")
    assert (whole["low"] < whole["value"]).all()
    assert (whole["value"] < whole["high"]).all()
    assert whole.loc["test", "paper"] == 0.5
    assert pd.isna(whole.loc["dev", "paper"]), "a paper's test value is not a dev value"
    cells = frame[(frame["metric"] == "confusion") & (frame["role"] == "test")]
    assert cells["value"].sum() == 60


def test_fusions_are_compared_with_every_single_system_on_the_same_rows(tmp_path):
    systems = both()
    fused, _ = fuse(systems, "f", "dev", lambda: make_fusion(INTERPOLATION), SPEAKERS)
    tables = {("raw", n): t for n, t in systems.items()}
    tables |= {("rebalanced", n): rebalance(t, "uniform") for n, t in systems.items()}
    tables["fused", "f"] = fused
    utterances = pd.DataFrame(
        {"utterance_id": fused.rows["utterance_id"], "corpus": "c", "speaker": "x"}
    )
    rows = pd.DataFrame(compare(evaluation(utterances), tables))
    COMPARISONS.write(rows, tmp_path / "comparisons.parquet")
    fused_rows = rows[rows["stage"] == "fused"]
    baselines = set(zip(fused_rows["baseline"], fused_rows["baseline_stage"], strict=True))
    assert baselines == {(n, s) for n in ("one", "two") for s in ("raw", "rebalanced")}
    shifts = rows[(rows["stage"] == "rebalanced") & (rows["baseline_stage"] == "raw")]
    assert (shifts["system"] == shifts["baseline"]).all()
    assert len(shifts) == 2
    rest = rows[(rows["stage"] == "rebalanced") & (rows["baseline_stage"] == "rebalanced")]
    assert list(zip(rest["system"], rest["baseline"], strict=True)) == [("one", "two")]


def test_p_values_are_corrected_for_all_comparisons_of_a_study():
    """Of twenty comparisons of equal systems one is "significant" on average."""
    systems = both()
    tables = {("raw", n): t for n, t in systems.items()}
    tables |= {("rebalanced", n): rebalance(t, "uniform") for n, t in systems.items()}
    utterances = pd.DataFrame(
        {"utterance_id": systems["one"].rows["utterance_id"], "corpus": "c", "speaker": "x"}
    )
    rows = pd.DataFrame(compare(evaluation(utterances), tables))
    for p in ("p", "mcnemar_p"):
        np.testing.assert_allclose(rows[f"{p}_holm"], holm(rows[p]))
        assert rows[f"{p}_holm"].min() >= len(rows) * rows[p].min() - 1e-12
    test = systems["one"].rows["role"] == "test"
    pair = rows[(rows["system"] == "one") & (rows["baseline"] == "two")]
    decided = {n: tables["rebalanced", n].log_proba[test].argmax(axis=1) for n in systems}
    labels = systems["one"].labels[test]
    only = (decided["one"] == labels) & (decided["two"] != labels)
    assert pair["only_system"].item() == only.sum()


def test_means_over_folds_are_their_own_numbers_beside_pooled_ones(tmp_path):
    """Printed without a label, either is taken for the other."""
    table = system("s", 1.5, 1, folds=("0", "1", "2"), roles=("test",), n=20)
    utterances = pd.DataFrame(
        {"utterance_id": table.rows["utterance_id"], "corpus": "c", "speaker": "x"}
    )
    frame = pd.DataFrame(score_posteriors(evaluation(utterances), table, "s", "raw"))
    SCORES.write(frame, tmp_path / "scores.parquet")
    found = frame[frame["metric"] == "macro_f1"].set_index("scope")
    folds = table.rows["fold"].to_numpy()
    decided = table.log_proba.argmax(axis=1)
    each = [
        METRICS["macro_f1"](confusion(table.labels[folds == k], decided[folds == k], 3))
        for k in "012"
    ]
    assert found.loc["fold mean", "value"] == pytest.approx(np.mean(each), abs=1e-12)
    for name, value in zip("012", each, strict=True):
        assert found.loc[f"fold {name}", "value"] == pytest.approx(value, abs=1e-12)
        assert found.loc[f"fold {name}", "n"] == 20
    text = fold_table("demo", frame).markdown()
    assert "| s        | raw     | 1                  | 20  |" in text
    assert f"{np.mean(each):.3f}" in text
    assert "Mean over 3 folds" in found.loc["fold mean", "definition"]
    assert "over 3 folds" in found.loc["fold mean", "interval"]
    assert found.loc["pooled", "value"] == pytest.approx(
        METRICS["macro_f1"](confusion(table.labels, decided, 3)), abs=1e-12
    )
    assert (frame[frame["metric"] == "recall"]["scope"] == "pooled").all()


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


def test_word_errors_join_by_id_and_ignore_case_and_punctuation():
    utterances = pd.DataFrame(
        {
            "utterance_id": ["a", "b"],
            "speaker": ["x", "y"],
            "text": ["But, how nice!", "no way"],
            "split": ["test", "test"],
        }
    )
    transcripts = pd.DataFrame(
        {"utterance_id": ["b", "a"], "text": ["no", "but how nice"], "asr": "canary"}
    )
    found = score_transcripts(evaluation(utterances), transcripts, seed=1)
    rates = {row["metric"]: row for row in found if not row["label"]}
    assert rates["wer"]["value"] == pytest.approx(1 / 5)
    assert rates["cer"]["value"] == pytest.approx(4 / 18)
    assert rates["wer"]["n"] == 2


def test_error_rates_are_told_by_emotion_and_gender_and_a_lone_speaker_has_no_interval():
    """A rate over all hides that a recogniser fails on the shouted half."""
    utterances = pd.DataFrame(
        {
            "utterance_id": list("abcd"),
            "corpus": "c",
            "speaker": ["x", "y", "x", "y"],
            "gender": ["female", "male", "female", "male"],
            "label": ["angry", "angry", "sad", "sad"],
            "language": "en",
            "text": ["go away", "leave me alone", "it is over", "never mind"],
        }
    )
    heard = ["go away", "leave me alone", "it is", ""]
    transcripts = pd.DataFrame({"utterance_id": list("abcd"), "text": heard, "asr": "canary"})
    found = score_transcripts(evaluation(utterances, unit="speaker"), transcripts, seed=1)
    rates = {row["label"]: row for row in found if row["metric"] == "wer"}
    assert {label: row["value"] for label, row in rates.items()} == pytest.approx(
        {
            "": 3 / 10,
            "emotion angry": 0,
            "emotion sad": 3 / 5,
            "gender female": 1 / 5,
            "gender male": 2 / 5,
        }
    )
    assert np.isnan(rates["gender male"]["low"])
    assert rates[""]["low"] < 3 / 10 < rates[""]["high"]


def test_speaker_intervals_need_speakers():
    table = system("s", 1.5, 1)
    utterances = pd.DataFrame(
        {"utterance_id": table.rows["utterance_id"], "corpus": "c", "speaker": None}
    )
    with pytest.raises(UserError, match="have none"):
        score_posteriors(evaluation(utterances, unit="speaker"), table, "s", "raw")
