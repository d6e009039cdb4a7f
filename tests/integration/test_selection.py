"""Nothing is chosen on test: with the test labels dealt out anew, every choice stays what it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from runs import copy_workflow, snakemake
from serflow.posteriors import read_posteriors
from small_emodb import write_small_emodb

STUDY = """
title: "Tones, official split"
classes: [anger, neutral, sadness]
corpora:
  tones: {source: table, columns: {label: emotion}}
folds: {protocol: official}
systems:
  svm: {family: functionals, classifier: svm}
  lr: {family: functionals, classifier: logistic_regression}
fusions:
  interpolation: {method: linear_interpolation, systems: [svm, lr], fit_on: dev}
  regression: {method: logistic_regression, systems: [svm, lr], fit_on: dev}
primary: interpolation
intervals: {resamples: 100}
"""
SPLIT = {"03": "train", "08": "train", "09": "dev", "10": "test"}
EMOTIONS = {"W": "anger", "N": "neutral", "T": "sadness"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Two runs that differ in the labels of the test speaker alone."""
    base = tmp_path_factory.mktemp("selection")
    corpus = write_small_emodb(base / "tones", tuple(SPLIT))
    files = sorted(corpus.glob("wav/*.wav"))
    table = pd.DataFrame(
        {
            "path": [file.relative_to(corpus).as_posix() for file in files],
            "emotion": [EMOTIONS[file.stem[5]] for file in files],
            "speaker": [file.stem[:2] for file in files],
            "split": [SPLIT[file.stem[:2]] for file in files],
        }
    )
    test = table["split"] == "test"
    # Every test label is wrong: whatever looks at them must come to another result.
    turned = table.loc[test, "emotion"].map({"anger": "neutral", "neutral": "sadness", "sadness": "anger"})  # fmt: skip
    folders = {}
    for name, emotion in (("true", table["emotion"]), ("permuted", turned)):
        folders[name] = copy_workflow(base / name)
        (folders[name] / "studies/tones.yaml").write_text(STUDY, encoding="utf-8")
        (folders[name] / "config.yaml").write_text(
            f"studies: [tones]\npaths: {{tones: {str(corpus)!r}}}\n", encoding="utf-8"
        )
        labels = table["emotion"].where(~test, emotion.reindex(table.index))
        table.assign(emotion=labels).to_csv(corpus / "utterances.csv", index=False)
        snakemake(folders[name], "--cores", "2")
    return folders


def test_permuted_test_labels_change_no_posterior_of_any_system_or_fusion(runs):
    base = Path("results/tones/seed-1/posteriors")
    tables = sorted(path.relative_to(runs["true"] / base) for path in (runs["true"] / base).rglob("*.parquet"))  # fmt: skip
    assert len(tables) == 6
    for table in tables:
        true, permuted = (read_posteriors(runs[name] / base / table) for name in runs)
        np.testing.assert_array_equal(true.log_proba, permuted.log_proba, err_msg=str(table))
        assert true.rows["utterance_id"].tolist() == permuted.rows["utterance_id"].tolist()


def test_permuted_test_labels_change_no_fusion_weight(runs):
    for fusion in ("interpolation", "regression"):
        path = f"results/tones/seed-1/fusions/{fusion}.json"
        true, permuted = (json.loads((runs[name] / path).read_text()) for name in runs)
        assert true["fits"] == permuted["fits"]


def test_the_permuted_labels_did_arrive(runs):
    """Or the two tests above would compare a run with itself."""
    scores = [pd.read_csv(runs[name] / "results/tones/scores.csv") for name in runs]
    accuracy = [
        table[(table["metric"] == "wa") & (table["role"] == "test")]["value"].max()
        for table in scores
    ]
    assert accuracy[0] > accuracy[1]
