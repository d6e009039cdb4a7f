"""The EmoSPeech 2024 study as it is shipped, on the challenge's own texts."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

from runs import copy_workflow, edited, planned, snakemake
from serflow.posteriors import read_posteriors
from serflow.submission import check_results
from serflow.tables import FOLDS, SCORES


@pytest.fixture(scope="module")
def tables(shared_data):
    folder = shared_data / "emospeech2024"
    if not folder.is_dir():
        pytest.skip(f"needs train.csv and test.csv of EmoSPeech 2024, and there is no {folder}")
    return folder


@pytest.fixture(scope="module")
def project(tables, tmp_path_factory):
    """A clone that has run the study to its report and its submission."""
    folder = copy_workflow(tmp_path_factory.mktemp("emospeech") / "clone")
    paths = json.dumps({"emospeech2024": str(tables)})
    (folder / "config.yaml").write_text(f"studies: [emospeech2024]\npaths: {paths}\n")
    snakemake(folder, "--cores", "2")
    return folder


def read(path):
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_words_and_characters_reach_a_macro_f1_of_60_in_the_papers_folds(project, tables):
    results = project / "results/emospeech2024"
    scores = SCORES.read(results / "scores.parquet")
    score = scores[(scores["metric"] == "macro_f1") & (scores["stage"] == "raw")].iloc[0]
    assert (score["role"], score["n"], score["paper"]) == ("test", 3000, 0.6694)
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
    moved = read_posteriors(base / "rebalanced/text_functionals.parquet")
    assert np.allclose(raw.log_proba, moved.log_proba)


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
    assert "Gemma 2B" in page


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
    assert "write_submission study=emospeech2024" in jobs
