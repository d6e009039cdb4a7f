"""The HuBERT study end to end in small, on real recordings: both protocols, both equal error rates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import tiny_models
from runs import copy_workflow, snakemake
from serflow.posteriors import read_posteriors
from serflow.tables import SCORES

CORPORA = {"ravdess": "ravdess", "crema_d": "crema-d"}
MODEL = "superb/hubert-large-superb-er"
STUDIES = {
    "hubert_multilabel": {"hubert_full", "hubert_qkv", "hubert_classifier"},
    "hubert_multilabel.speaker_disjoint": {"hubert_qkv"},
}


def reduced(study: dict) -> dict:
    """What 60 recordings of one actor of RAVDESS and 12 of two of CREMA-D can carry."""
    study["corpora"] = {name: study["corpora"][name] | {"subset": True} for name in CORPORA}
    study["labels"]["drop"] = ["calm", "surprised"]  # one actor's alone: nobody else to train on
    study["classes"] = [c for c in study["classes"] if c not in ("calm", "surprise")]
    del study["labels"]["map"]["surprised"], study["labels"]["map"]["pleasant_surprise"]
    study["folds"] |= {"test": 0.4, "stratify": True}
    contrast = study["contrasts"]["speaker_disjoint"]
    contrast["systems"] = ["hubert_qkv"]
    contrast["folds"]["k"] = 2
    for audit in (study["audit"], contrast["audit"]):
        audit["near_duplicates"] = False
    for system in study["systems"].values():
        system["head"] = system["head"] | {"hidden": 8}
        system["training"] = system["training"] | {"epochs": 2, "learning_rate": 1e-3}
        system["resources"] = "cpu-small"
    study["intervals"]["resamples"] = 200
    return study


@pytest.fixture(scope="module")
def ran(tmp_path_factory, shared_data: Path) -> Path:
    base = tmp_path_factory.mktemp("hubert")
    folder = copy_workflow(base / "clone")
    study = folder / "studies/hubert_multilabel.yaml"
    data = yaml.safe_load(study.read_text(encoding="utf-8"))
    study.write_text(yaml.safe_dump(reduced(data), sort_keys=False), encoding="utf-8")
    config = {
        "studies": ["hubert_multilabel"],
        "paths": {name: str(shared_data / path) for name, path in CORPORA.items()},
        "models": {MODEL: str(tiny_models.hubert_classifier(base / "tiny hubert"))},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    scores = [f"results/{study}/scores.parquet" for study in STUDIES]
    snakemake(folder, "--cores", "2", *scores)
    return folder / "results"


def scores_of(ran: Path, study: str):
    scores = SCORES.read(ran / study / "scores.parquet")
    pooled = scores["scope"] == "pooled"
    return scores[(scores["role"] == "test") & (scores["label"] == "") & pooled].set_index(
        ["system", "stage", "metric"]
    )


def test_both_protocols_have_both_equal_error_rates_with_intervals(ran):
    for study, systems in STUDIES.items():
        scores = scores_of(ran, study)
        assert set(scores.index.get_level_values("system")) == systems
        for system in systems:
            for metric in ("eer", "hard_eer"):
                row = scores.loc[system, "raw", metric]
                assert 0 <= row.low <= row.value <= row.high <= 1
                assert "lower is better" in row.definition


def test_the_papers_values_stand_beside_its_own_protocol_only(ran):
    scores = scores_of(ran, "hubert_multilabel")
    assert scores.loc[("hubert_full", "raw", "hard_eer"), "paper"] == 0.0713
    assert np.isnan(scores.loc[("hubert_full", "raw", "eer"), "paper"])
    assert scores_of(ran, "hubert_multilabel.speaker_disjoint")["paper"].isna().all()


def test_every_speaker_of_the_contrast_is_tested_once_and_unheard(ran):
    table = read_posteriors(
        ran / "hubert_multilabel.speaker_disjoint/seed-1/posteriors/raw/hubert_qkv.parquet"
    )
    assert len(table.rows) == len(set(table.rows["utterance_id"])) == 56
    speakers = table.rows["utterance_id"].map(lambda u: u.split("-")[-1] if "-" in u else u[:12])
    assert (table.rows.groupby(speakers)["fold"].nunique() == 1).all()


def test_heads_start_from_the_checkpoint_and_each_system_trains_its_part(ran):
    trained = {}
    for system in STUDIES["hubert_multilabel"]:
        facts = json.loads(
            (ran / f"hubert_multilabel/seed-1/systems/{system}/fold-0/facts.json").read_text()
        )
        assert facts["head_from_checkpoint"] == "layer_weights, projector.bias, projector.weight"
        trained[system] = facts["trainable_parameters"]
    assert trained["hubert_full"] > trained["hubert_qkv"] > trained["hubert_classifier"]
    head = 3 + (16 * 8 + 8) + (8 * 6 + 6)  # layer weights, projector, classifier
    assert trained["hubert_classifier"] == head
