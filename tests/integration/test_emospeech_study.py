"""The EmoSPeech 2024 study as it is shipped, on the challenge's own texts."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import softmax
from sklearn.model_selection import StratifiedKFold

import tiny_models
from runs import copy_workflow, edited, planned, snakemake
from serflow.posteriors import read_posteriors
from serflow.predictions import read_predictions
from serflow.submission.emospeech import check_results
from serflow.tables import FOLDS, SCORES

TEXTS = ["text_functionals", "text_unweighted", "text_words"]


@pytest.fixture(scope="module")
def tables(shared_data):
    folder = shared_data / "emospeech2024"
    if not folder.is_dir():
        pytest.skip(f"needs train.csv and test.csv of EmoSPeech 2024, and there is no {folder}")
    return folder


@pytest.fixture(scope="module")
def project(tables, tmp_path_factory):
    """A clone that has run the study's systems without a network to its report and submission."""
    folder = copy_workflow(tmp_path_factory.mktemp("emospeech") / "clone")
    study = folder / "studies/emospeech2024.yaml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("task_1: {system: gemma}", "task_1: {system: text_functionals}"))
    configure(folder, tables, systems=TEXTS)
    snakemake(folder, "--cores", "2")
    return folder


def configure(folder, tables, **more):
    config = {"studies": ["emospeech2024"], "paths": {"emospeech2024": str(tables)}, **more}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tables, tmp_path_factory):
    """All of the study's systems, on a part of the texts, with a tiny Gemma and two folds."""
    base = tmp_path_factory.mktemp("gemma")
    folder, part = copy_workflow(base / "clone"), base / "EmoSPeech"
    part.mkdir()
    train = pd.read_csv(tables / "train.csv")
    train.groupby("label").head(18).to_csv(part / "train.csv", index=False)
    pd.read_csv(tables / "test.csv").head(12).to_csv(part / "test.csv", index=False)
    model = str(tiny_models.gemma(base / "gemma"))
    path = folder / "studies/emospeech2024.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    study["corpora"]["emospeech2024"]["subset"] = True
    study["folds"]["k"] = 2
    for name, system in study["systems"].items():
        if name in TEXTS:
            continue
        system |= {"model": model, "resources": "cpu-small"}
        if "training" in system:
            system["training"] = system["training"] | {"epochs": 1, "batch_size": 16}
            system["lora"] = system["lora"] | {"rank": 4, "alpha": 4}
    study["systems"]["gemma"]["grid"]["over"] = {"lora.rank": [2, 4], "lora.alpha": [4]}
    del study["systems"]["gemma_six_emotions"]
    study["submission"]["tasks"]["task_2"] = {"system": "interpolation", "stage": "fused"}
    study["intervals"]["resamples"] = 200
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    configure(folder, part)
    snakemake(folder, "--cores", "2")
    return folder


def read(path):
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_words_and_characters_reach_a_macro_f1_of_60_in_the_papers_folds(project, tables):
    results = project / "results/emospeech2024"
    scores = SCORES.read(results / "scores.parquet")
    score = scores[(scores["metric"] == "macro_f1") & (scores["stage"] == "raw")].iloc[0]
    assert (score["role"], score["n"]) == ("test", 3000)
    assert score["value"] >= 0.60
    rows = read(tables / "train.csv")
    labels = [row["label"] for row in rows]
    splits = StratifiedKFold(5, shuffle=True, random_state=42).split(labels, labels)
    folds = FOLDS.read(results / "folds.parquet")
    for fold, (_, test) in enumerate(splits):
        mine = folds[(folds["fold"] == str(fold)) & (folds["role"] == "test")]["utterance_id"]
        ids = {f"emospeech2024/{rows[i]['id'].removesuffix('.mp3')}" for i in test}
        assert set(mine) == ids, "not the folds that others shuffle from train.csv"


def test_fear_is_found_and_a_balanced_model_is_not_rebalanced_once_more(project):
    """With 23 of 3,000 rows, a class can be lost whole and accuracy says nothing of it."""
    base = project / "results/emospeech2024/seed-1/posteriors"
    raw = read_posteriors(base / "raw/text_functionals.parquet")
    hits = (raw.rows["label"] == "fear") & (
        np.array(raw.classes)[raw.log_proba.argmax(1)] == "fear"
    )
    assert hits.sum() >= 5
    calibrated = read_posteriors(base / "calibrated/text_functionals.parquet")
    moved = read_posteriors(base / "rebalanced/text_functionals.parquet")
    assert np.allclose(calibrated.log_proba, moved.log_proba)


def test_three_text_systems_are_rebalanced_calibrated_and_fused_on_rows_that_are_not_scored(
    project,
):
    """On real posteriors: nothing here may rest on what synthetic ones look like."""
    results = project / "results/emospeech2024"
    scores = SCORES.read(results / "scores.parquet")
    found = scores[scores["scope"] == "pooled"].set_index(["metric", "system", "stage", "label"])
    found = found["value"]
    for system in TEXTS:
        raw, calibrated = (found["nll", system, stage, ""] for stage in ("raw", "calibrated"))
        assert calibrated <= raw + 0.001
    gained = [
        found["recall", "text_unweighted", stage, "fear"] for stage in ("calibrated", "rebalanced")
    ]
    assert gained[1] > gained[0], "what learnt that fear is rare is told that it is not"
    best = max(found["macro_f1", system, "rebalanced", ""] for system in TEXTS)
    fusions = ["texts", "texts_log_linear", "texts_regression", "texts_mean"]
    assert max(found["macro_f1", fusion, "fused", ""] for fusion in fusions) > best - 0.01
    for fusion in fusions[:3]:
        learnt = json.loads((results / f"seed-1/fusions/{fusion}.json").read_text())
        assert len(learnt["fits"]) == 5
        assert sum(3000 - fit["n"] for fit in learnt["fits"]) == 3000
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "Gap beyond it" in page
    assert "Temperatures: " in page


def test_what_is_handed_in_answers_task_1_for_every_test_item_in_its_order(project, tables):
    text = (project / "results/emospeech2024/submission/results.csv").read_text(encoding="utf-8")
    ids = [row["id"].removesuffix(".mp3") for row in read(tables / "test.csv")]
    assert len(ids) == 750
    check_results(text, ids, ["task_1"])
    assert text.startswith("id,task_1,task_2\n791bce67-cf7eeadc,")


def test_the_final_system_has_seen_every_labelled_row_and_no_other(project):
    folds = FOLDS.read(project / "results/emospeech2024/final_folds.parquet")
    assert folds["role"].value_counts().to_dict() == {"train": 3000, "test": 750}
    utterances = pd.read_parquet(project / "results/emospeech2024/final_utterances.parquet")
    hidden = utterances[utterances["label"].isna()]["utterance_id"]
    assert set(hidden) == set(folds[folds["role"] == "test"]["utterance_id"])


def test_the_report_counts_the_jobs_of_its_own_numbers(project):
    page = (project / "results/emospeech2024/report.html").read_text(encoding="utf-8")
    assert "Train and predict: text_functionals" in page
    assert "Write submission" not in page
    assert "gemma" not in page.split("<h2>Provenance")[0], "systems that were not asked for"


def test_folds_and_reasons_leave_the_final_system_alone(project):
    """On a GPU the final training is hours; nothing but its own data and settings renews it."""
    study = project / "studies/emospeech2024.yaml"
    with edited(study, "k: 5", "k: 4"):
        jobs = planned(project)
    assert "assign_folds study=emospeech2024" in jobs
    assert not [job for job in jobs if "fold=final" in job or "submission" in job]
    with edited(study, "    transcripts: given", "    transcripts: given\n    C: 5"):
        jobs = planned(project)
    final = "train_fold study=emospeech2024, seed=1, system=text_functionals, fold=final"
    assert final in jobs
    assert "write_submission study=emospeech2024, file=results" in jobs


def test_the_chosen_point_of_a_grid_is_trained_on_all_rows_and_handed_in(whole):
    """Section 4: cross-validation chooses rank and alpha; the test part has that one's answers."""
    results = whole / "results/emospeech2024"
    grid = json.loads((results / "seed-1/grids/gemma.json").read_text())
    assert list(grid["points"]) == ["gemma--rank-2--alpha-4", "gemma--rank-4--alpha-4"]
    record = json.loads((results / "seed-1/systems/gemma/fold-final/system.json").read_text())
    assert record["settings"]["lora"]["rank"] == grid["points"][grid["final"]]["lora.rank"]
    assert record["settings"]["lora"]["alpha"] == 4
    text = (results / "submission/results.csv").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 1 + 12
    scores = SCORES.read(results / "scores.parquet")
    scores = scores[scores["scope"] == "pooled"]
    told = scores[scores["metric"] == "macro_f1"].set_index(["system", "stage"])["definition"]
    for system in (("gemma", "raw"), ("interpolation", "fused")):
        assert "These rows chose among 2 settings: optimistic." in told[system]
    assert "chose" not in told["gemma_32", "raw"]


def test_a_fusion_is_handed_in_with_the_mean_of_what_the_folds_found(whole):
    """Cross-fitted: no fold's temperature and no fold's weights are those of the test part."""
    base = whole / "results/emospeech2024/seed-1"
    fused = 0.0
    fits = json.loads((base / "fusions/interpolation.json").read_text())["fits"]
    weights = np.mean([fit["weights"] for fit in fits], axis=0)
    for weight, name in zip(weights, ("text_functionals", "gemma"), strict=True):
        raw = read_predictions(base / f"systems/{name}/fold-final/predictions.parquet")
        found = json.loads((base / f"calibrations/{name}.json").read_text())["fits"]
        assert len(found) == 2
        scale = np.mean([1 / fit["learnt"]["temperature"] for fit in found])
        moved = np.maximum(raw.log_proba, np.log(1e-10)) * scale - np.log(raw.prior)
        order = raw.rows["utterance_id"].argsort()
        fused = fused + weight * softmax(moved, axis=1)[order]
    names = np.array(raw.classes)[fused.argmax(axis=1)]
    ids = sorted(raw.rows["utterance_id"])
    rows = read(whole / "results/emospeech2024/submission/results.csv")
    assert {f"emospeech2024/{row['id']}": row["task_2"] for row in rows} == dict(
        zip(ids, names, strict=True)
    )


def test_zero_shot_trains_nothing_and_the_prompt_is_the_papers(whole):
    folder = whole / "results/emospeech2024/seed-1/systems/gemma_zero_shot/fold-0"
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["zero_shot"]
    assert facts["trainable_parameters"] == 0
    prompt = json.loads((folder / "system.json").read_text())["settings"]["prompt"]
    assert prompt.startswith("Instruction:\nGiven the following audio transcription, predict the")


def test_a_point_more_trains_its_folds_and_renews_the_final_system_only_if_it_wins(whole):
    study = whole / "studies/emospeech2024.yaml"
    with edited(study, "        - 2\n        - 4\n", "        - 2\n        - 4\n        - 8\n"):
        jobs = planned(whole)
    trained = [job for job in jobs if job.startswith("train_fold")]
    assert [job for job in trained if "rank-8" in job] == [
        f"train_fold study=emospeech2024, seed=1, system=gemma--rank-8--alpha-4, fold={fold}"
        for fold in range(2)
    ]
