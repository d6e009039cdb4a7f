"""The Odyssey 2024 study as it is shipped, but for the size of its models and of the corpus."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml

import tiny_models
from corpus_trees import MSP_CLASSES, write_msp_podcast
from runs import copy_workflow, edited, planned, snakemake
from serflow.attributes import read_attributes
from serflow.concordance import concordance
from serflow.corpora.msp_podcast import CLASSES as CATEGORIES
from serflow.posteriors import read_posteriors
from serflow.predictions import read_predictions
from serflow.submission.formats import check_file
from serflow.tables import FOLDS, SCORES, UTTERANCES

CLASSES = [name for name in MSP_CLASSES.values() if name]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone with tiny models and a synthetic release, run to its report."""
    base = tmp_path_factory.mktemp("odyssey")
    folder = copy_workflow(base / "clone")
    items = {"Train": 8, "Development": 4, "Test1": 6, "Test3": 4}
    corpus = write_msp_podcast(base / "MSP", items=items)
    for name, make in (("w2v", tiny_models.w2v_bert), ("roberta", tiny_models.roberta)):
        make(base / name)
    study = yaml.safe_load((folder / "studies/odyssey2024.yaml").read_text(encoding="utf-8"))
    study["classes"] = CLASSES  # of the synthetic release
    study["corpora"]["msp_podcast"]["subset"] = True
    study["folds"]["dev_per_class"] = 3
    study["asr"] = {"canary": {"engine": "reference"}}
    systems = study["systems"]
    systems["roberta_attributes"] = systems.pop("llama2_7b_attributes") | {
        "adaptation": "full",
        "lora": None,
    }
    del systems["llama2_7b"], systems["llama2_70b"]
    speech = ("wav2vec2_bert", "wav2vec2_bert_attributes", "sonar")
    text = ("roberta", "roberta_attributes")
    for name in speech:
        systems[name] |= {"model": str(base / "w2v"), "resources": "cpu-small"}
        systems[name]["lora"] |= {"rank": 4, "alpha": 4}
        systems[name]["head"] |= {"bottleneck": 8, "hidden": 24}
    for name in text:
        systems[name] |= {"model": str(base / "roberta"), "resources": "cpu-small"}
    for name in (*speech, *text):
        phases = [systems[name], *systems[name].get("further_phases", [])]
        for phase in phases:
            phase["training"] |= {"epochs": 2, "batch_size": 8, "accumulation": 1}
        systems[name].pop("augmentation", None)  # needs corpora of gigabytes
    for fusion in study["fusions"].values():
        readers = {"llama2_7b": "roberta", "llama2_70b": "roberta"}
        fusion["systems"] = [readers.get(s, s) for s in fusion["systems"]]
    mixed = study["attribute_fusions"]["attributes"]["systems"]
    mixed[mixed.index("llama2_7b_attributes")] = "roberta_attributes"
    study["paper_values"][0] |= {"system": "roberta"}
    study["intervals"]["resamples"] = 200
    (folder / "studies/odyssey2024.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config |= {"studies": ["odyssey2024"], "paths": {"msp_podcast": str(corpus)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    snakemake(folder, "--cores", "2")
    return folder


def test_what_is_learnt_only_is_scored_nowhere(project):
    """Other and no agreement are rows of training; no posterior, fold of dev or test has them."""
    results = project / "results/odyssey2024"
    labels = UTTERANCES.read(results / "utterances.parquet").set_index("utterance_id")["label"]
    folds = FOLDS.read(results / "folds.parquet")
    found = folds["utterance_id"].map(labels)
    assert {"other", "no_agreement"} <= set(found[folds["role"] == "train"])
    assert set(found[folds["role"] != "train"]) == set(CLASSES)
    assert (folds["role"] == "dev").sum() == 3 * len(CLASSES)
    for system in ("wav2vec2_bert", "wav2vec2_bert_lda", "sonar_plda", "roberta"):
        table = read_posteriors(results / f"seed-1/posteriors/raw/{system}.parquet")
        assert list(table.classes) == CLASSES
        assert np.isfinite(table.log_proba).all()


def test_backends_express_a_uniform_prior_and_hear_what_their_network_hears(project):
    results = project / "results/odyssey2024"
    raw = read_posteriors(results / "seed-1/posteriors/raw/wav2vec2_bert_lda.parquet")
    moved = read_posteriors(results / "seed-1/posteriors/rebalanced/wav2vec2_bert_lda.parquet")
    assert raw.priors["0"] == pytest.approx([1 / len(CLASSES)] * len(CLASSES))
    np.testing.assert_allclose(raw.log_proba, moved.log_proba, atol=1e-9)
    table = pd.read_parquet(results / "seed-1/systems/wav2vec2_bert/embeddings-0.parquet")
    assert table.shape == (len(FOLDS.read(results / "folds.parquet")), 1 + 24)
    scores = SCORES.read(results / "scores.parquet")
    rows = scores.query("system == 'wav2vec2_bert_lda' and stage == 'raw' and role == 'test'")
    assert rows.loc[rows["metric"] == "uar", "value"].iloc[0] > 1 / len(CLASSES)


def test_attributes_have_their_own_tables_scores_and_section(project):
    """Arousal by speech and by text, with intervals; neither is taken for a classifier."""
    results = project / "results/odyssey2024"
    folds = FOLDS.read(results / "folds.parquet")
    scores = SCORES.read(results / "scores.parquet")
    utterances = UTTERANCES.read(results / "utterances.parquet").set_index("utterance_id")
    for system in ("wav2vec2_bert_attributes", "roberta_attributes"):
        table = read_attributes(results / f"seed-1/attributes/raw/{system}.parquet")
        assert len(table.rows) == (folds["role"] != "train").sum()
        arousal = utterances.loc[table.rows["utterance_id"], "arousal"]
        assert table.reference[:, 0] == pytest.approx(arousal.to_numpy())
        assert not (results / f"seed-1/posteriors/raw/{system}.parquet").exists()
        rows = scores[(scores["system"] == system) & (scores["role"] == "test")]
        assert set(rows["metric"]) == {"ccc", "mean_ccc"}
        assert set(rows["label"]) == {"arousal", "valence", "dominance", ""}
        test = (table.rows["role"] == "test").to_numpy()
        each = concordance(table.reference[test], table.predicted[test])
        found = rows.set_index("label")["value"]
        assert found[["arousal", "valence", "dominance"]].to_numpy() == pytest.approx(each)
        assert found[""] == pytest.approx(each.mean())
        assert (rows["low"] <= rows["value"]).all()
        assert (rows["value"] <= rows["high"]).all()
    fused = read_attributes(results / "seed-1/attributes/fused/attributes.parquet")
    assert set(fused.rows["system"]) == {"attributes"}
    (fit,) = json.loads((results / "seed-1/attribute_fusions/attributes.json").read_text())["fits"]
    assert fit["n"] == (folds["role"] == "dev").sum()
    for name, objective in fit["objective"].items():
        at = fit["grid"].index(fit["weights"][name])
        assert objective[at] == max(objective)
    assert "attributes" in set(scores.query("metric == 'mean_ccc'")["system"])
    facts = json.loads(
        (results / "seed-1/systems/wav2vec2_bert_attributes/fold-0/facts.json").read_text()
    )
    assert facts["balanced_sampling"]
    assert len(facts["earlier_phases"]) == 1
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "roberta_attributes, valence" in page


def test_both_tasks_of_the_challenge_are_answered_by_the_fusions_of_the_one_fold(project):
    """Test3 gets Dev_bal's weights, by the networks that never saw a dev row; nothing trains again."""
    results = project / "results/odyssey2024"
    corpus = project / "results/corpora/msp_podcast/utterances.parquet"
    for file in ("categories", "attributes"):
        path = results / f"submission/{file}.csv"
        assert check_file(f"odyssey2024_{file}", path, UTTERANCES.read(corpus)) == 4
    base = results / "seed-1"
    assert not list(base.glob("systems/*/fold-final"))
    systems = ["wav2vec2_bert_lda", "roberta"]
    raw = [read_predictions(base / f"systems/{x}/hidden/predictions.parquet") for x in systems]
    ids = raw[0].rows["utterance_id"].tolist()
    assert raw[1].rows["utterance_id"].tolist() == ids
    moved = [np.exp(one.log_proba) / one.prior for one in raw]
    (fit,) = json.loads((base / "fusions/interpolation.json").read_text())["fits"]
    proba = sum(
        weight * one / one.sum(axis=1, keepdims=True)
        for weight, one in zip(fit["weights"], moved, strict=True)
    )
    decided = dict(zip(ids, np.array(CLASSES)[proba.argmax(axis=1)], strict=True))
    rows = pd.read_csv(results / "submission/categories.csv").set_index("FileName")["EmoClass"]
    expected = {f"{name.removeprefix('msp_podcast/')}.wav": decided[name] for name in ids}
    assert {name: CATEGORIES[letter] for name, letter in rows.items()} == expected
    rated = read_attributes(base / "systems/roberta_attributes/hidden/attributes.parquet")
    assert np.isnan(rated.reference).all()


def test_a_weight_more_or_less_asks_no_network_again(project):
    """Another step of the grid costs seconds, down to the files that are handed in."""
    with edited(project / "studies/odyssey2024.yaml", "step: 0.05", "step: 0.1"):
        jobs = planned(project)
    written = {job.split()[0] for job in jobs if "submission" in job or "hidden" in job}
    assert written == {"write_submission"}
    assert not [job for job in jobs if job.startswith(("train_fold", "embed_fold"))]


def test_another_backend_is_refitted_without_the_gpu(project):
    """A dimension tried anew costs seconds: nothing is trained, and nothing embedded again."""
    path = project / "studies/odyssey2024.yaml"
    before = path.read_text(encoding="utf-8")
    study = yaml.safe_load(before)
    study["systems"]["wav2vec2_bert_lda"]["dim"] = 3
    try:
        path.write_text(yaml.safe_dump(study, sort_keys=False))
        jobs = planned(project)
    finally:
        path.write_text(before)
    trained = [job for job in jobs if job.startswith(("train_fold", "embed_fold"))]
    assert len(trained) == 1
    assert "system=wav2vec2_bert_lda" in trained[0]
    asked = [job for job in jobs if job.startswith("predict_hidden")]
    assert len(asked) == 1
    assert "system=wav2vec2_bert_lda" in asked[0]
