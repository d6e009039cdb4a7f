"""Scores and comparisons say what they are of, and equal what their tables hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from noisy_systems import SPEAKERS, both, system
from serflow.equal_error import equal_error_rates
from serflow.errors import UserError
from serflow.evaluation.comparisons import compare
from serflow.evaluation.posteriors import score_posteriors
from serflow.evaluation.rows import Evaluation
from serflow.evaluation.transcripts import score_transcripts
from serflow.metrics import METRICS, confusion
from serflow.rebalancing import rebalance
from serflow.reliability import RELIABILITY
from serflow.report.fold_tables import fold_table
from serflow.significance import holm
from serflow.stacking import fuse, make_fusion
from serflow.tables import COMPARISONS, SCORES

INTERPOLATION = {"method": "linear_interpolation", "step": 0.05, "objective": "macro_f1"}


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
