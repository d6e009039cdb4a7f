"""What is handed in: one file, complete, in order, by systems that saw no hidden label."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from runs import ROOT
from serflow.config.load import load
from serflow.config.site import SiteConfig
from serflow.config.study import StudyConfig
from serflow.config.submission import CHALLENGES, members
from serflow.context import Context
from serflow.corpora import emospeech2024
from serflow.errors import UserError
from serflow.final_fold import fold_beside, hidden_rows
from serflow.plan import Plan
from serflow.posteriors import read_posteriors
from serflow.predictions import read_predictions
from serflow.submission.emospeech import check_results, expected_ids, results_csv
from serflow.systems.fold_run import join_fold, score, train_and_score
from serflow.systems.interface import build
from serflow.systems.saved import load_or_fit
from serflow.tables import FOLDS, UTTERANCES

IDS = ["b", "a", "c"]
ANSWERS = {"a": "joy", "b": "neutral", "c": "fear"}
GOOD = "id,task_1,task_2\nb,neutral,\na,joy,\nc,fear,\n"


def test_the_file_is_in_the_order_of_the_test_file_and_leaves_the_other_task_empty():
    assert results_csv(IDS, {"task_1": ANSWERS}) == GOOD
    both = results_csv(IDS, {"task_2": ANSWERS, "task_1": dict.fromkeys(IDS, "anger")})
    assert both.splitlines()[1] == "b,anger,neutral"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("task_1,task_2", "task1,task2", "header is id,task1,task2; expected id,task_1,task_2"),
        ("b,neutral,\n", "", "of the 3 ids of the test file, 1 are missing: b"),
        ("c,fear,\n", "c,fear,\nd,fear,\n", "1 are not in the test file: d"),
        ("c,fear,\n", "c,fear,\nc,fear,\n", "1 are there twice: c"),
        ("a,joy", "a.mp3,joy", r"1 are missing: a; 1 are not in the test file: a\.mp3"),
        ("b,neutral,\na,joy,\n", "a,joy,\nb,neutral,\n", "from line 2 on, rows are not in the"),
        ("a,joy", "a,happy", r"task_1 of 1 rows is not one of neutral, .*: a \(happy\)"),
        ("a,joy", "a,", r"task_1 of 1 rows is not one of neutral, .*: a \(none\)"),
        ("a,joy,", "a,joy,joy", r"task_2 of 1 rows is not one of none: a \(joy\)"),
        ("a,joy,", "a,joy", "expected 3 fields in line 3"),
    ],
)
def test_a_file_that_the_organisers_would_refuse_or_score_as_something_else(old, new, fault):
    check_results(GOOD, IDS, ["task_1"])
    assert old in GOOD
    with pytest.raises(UserError, match=fault):
        check_results(GOOD.replace(old, new, 1), IDS, ["task_1"])


def test_an_empty_file_is_no_answer():
    with pytest.raises(UserError, match="header is empty"):
        check_results("", IDS, ["task_1"])


def test_a_system_that_skips_an_item_is_named_with_its_task():
    with pytest.raises(UserError, match=r"task_2: of the 3 ids of the test file, 1 are missing: c"):
        results_csv(IDS, {"task_1": ANSWERS, "task_2": {"a": "joy", "b": "joy"}})


def test_the_labels_are_those_of_the_corpus():
    assert set(CHALLENGES["emospeech2024"].labels) == set(emospeech2024.COUNTS)


@pytest.fixture
def corpus(tmp_path):
    """A small corpus as the organisers lay it out, listed; test rows in an order of their own."""
    said = {"joy": "gracias a todos", "fear": "¡ayúdame!", "neutral": "el tiempo de hoy"}
    rows = [f"t{i}.mp3,{label},{said[label]} {i}" for i in range(8) for label in said]
    rows = [f"{n}{row}" for n, row in enumerate(rows)]
    (tmp_path / "train.csv").write_text("\n".join(["id,label,transcription", *rows]) + "\n")
    (tmp_path / "test.csv").write_text(
        "id,transcription\nz.mp3,gracias\nb.mp3,¡ayúdame!\nm.mp3,el tiempo\n"
    )
    return emospeech2024.read(tmp_path, subset=True).reindex(columns=list(UTTERANCES.columns))


def test_ids_are_those_of_the_test_file_in_its_order_whatever_the_tables_order(corpus):
    assert expected_ids(corpus.sample(frac=1, random_state=0)) == ["z", "b", "m"]


def test_all_labelled_rows_train_and_the_others_are_predicted_without_any_label(corpus, tmp_path):
    """Posteriors need references, and an invented one could be scored."""
    labelled = corpus[corpus["label_raw"].notna()].assign(label=corpus["label_raw"])
    rows, folds = fold_beside(labelled, hidden_rows(corpus), "final")
    UTTERANCES.check(rows, "test")
    FOLDS.check(folds, "test")
    assert folds["role"].value_counts().to_dict() == {"train": 24, "test": 3}
    classes = ["joy", "fear", "neutral"]
    texts = rows.set_index("utterance_id")["text"]
    fold = join_fold(rows, folds, "final", classes, texts=texts)
    settings = {"family": "text_functionals"}
    system = build("text_functionals", settings, Context(classes, 1, tmp_path))
    tables = train_and_score(system, "tf", fold, 1, "digest")
    assert list(tables) == ["predictions"]
    path = tmp_path / "predictions.parquet"
    tables["predictions"].write(path)
    found = read_predictions(path)
    assert found.hypotheses.to_dict() == {
        "emospeech2024/z": "joy", "emospeech2024/b": "fear", "emospeech2024/m": "neutral"
    }  # fmt: skip
    assert found.prior == pytest.approx([1 / 3] * 3)
    assert "label" not in pd.read_parquet(path).columns
    with pytest.raises(UserError, match="columns missing"):
        read_posteriors(path)


def test_a_diverged_final_system_hands_in_nothing(corpus, tmp_path):
    labelled = corpus[corpus["label_raw"].notna()].assign(label=corpus["label_raw"])
    rows, folds = fold_beside(labelled, hidden_rows(corpus), "final")
    classes = ["joy", "fear", "neutral"]
    fold = join_fold(rows, folds, "final", classes, texts=rows.set_index("utterance_id")["text"])
    system = build(
        "text_functionals", {"family": "text_functionals"}, Context(classes, 1, tmp_path)
    )
    table = train_and_score(system, "tf", fold, 1, "digest")["predictions"]
    table.log_proba[1] = np.nan
    with pytest.raises(UserError, match=r"1 rows are not finite .*emospeech2024/"):
        table.write(tmp_path / "predictions.parquet")


def test_a_corpus_without_its_test_part_has_nothing_to_hand_in(corpus):
    labelled = corpus[corpus["label_raw"].notna()]
    with pytest.raises(UserError, match=r"all 24 utterances have a label.*take `submission` out"):
        hidden_rows(labelled)


def test_a_hidden_utterance_is_never_trained_on(corpus):
    with pytest.raises(UserError, match="3 utterances to be predicted are trained on as well"):
        fold_beside(corpus, hidden_rows(corpus), "final")


def test_the_one_folds_system_predicts_the_hidden_rows_as_if_they_were_its_test_rows(
    corpus, tmp_path
):
    """Where nothing is trained once more: by the rows that the fold trained on, and by no others."""
    labelled = corpus[corpus["label_raw"].notna()].assign(label=corpus["label_raw"])
    train, dev = labelled[:18], labelled[18:]
    classes = ["joy", "fear", "neutral"]
    rows, folds = fold_beside(train, hidden_rows(corpus), "hidden")
    inputs = {"texts": rows.set_index("utterance_id")["text"]}
    fold = join_fold(rows, folds, "hidden", classes, **inputs)
    settings = {"family": "text_functionals", "class_weight": "none"}
    trained = build("text_functionals", settings, Context(classes, 1, tmp_path))
    trained.fit(fold.examples("train"), None)
    trained.save(tmp_path / "fold-0")
    system = load_or_fit(tmp_path / "fold-0", fold.examples("train"))
    found = score(system, "tf", fold, 1, "digest")["predictions"]
    expected = trained.predict(fold.examples("test")).log_proba
    np.testing.assert_allclose(found.log_proba, expected, atol=1e-12)
    assert found.prior == pytest.approx(trained.train_prior_)
    assert not set(dev["utterance_id"]) & set(fold.rows["utterance_id"])


def test_what_raters_say_of_hidden_rows_goes_no_further(corpus):
    """A release that rates its test part: neither a label nor a rating reaches what predicts it."""
    rated = corpus.assign(arousal=3.0, valence=4.0, dominance=5.0, label="joy")
    hidden = hidden_rows(rated)
    assert len(hidden) == 3
    assert hidden[["label", "arousal", "valence", "dominance"]].isna().all().all()
    UTTERANCES.check(hidden, "test")


STUDY = yaml.safe_load((ROOT / "studies/emospeech2024.yaml").read_text(encoding="utf-8"))
STUDY |= {
    "systems": {"text_functionals": STUDY["systems"]["text_functionals"]},
    "fusions": {},
    "primary": None,
    "paper_values": [],
    "submission": {"format": "emospeech2024", "tasks": {"task_1": {"system": "text_functionals"}}},
}
NETWORK = {
    "family": "text_classifier", "model": "results/models/x", "transcripts": "given",
    "training": {"select": "best"},
}  # fmt: skip


def handed_in(task="task_1", trained_on="all_labelled", **named):
    return {
        "format": "emospeech2024",
        "trained_on": trained_on,
        "tasks": {task: {"system": "text_functionals"} | named},
    }


HELD_OUT = {"protocol": "stratified_k_fold", "dev": "next_fold"}
GIVEN = {
    "family": "given", "file": "x.csv", "values": "logits", "train_prior": "uniform",
}  # fmt: skip
BOTH = {
    "systems": {"text_functionals": STUDY["systems"]["text_functionals"], "theirs": GIVEN},
    "fusions": {"both": {"method": "mean", "systems": ["text_functionals", "theirs"]}},
}
REBALANCED = {"submission": handed_in(stage="rebalanced"), "prior": {"target": "bbse"}}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"labels": {}}, "`labels.unlabelled` is 'fail'; set it to 'drop'"),
        (
            {"submission": handed_in(system="svm")},
            "task_1 is 'svm' at stage 'raw', which is no system that predicts categories; there are "
            "text_functionals",
        ),
        ({"corpora": {"demo": {"source": "demo"}}}, "that is none of the corpora"),
        (
            {"corpora": STUDY["corpora"] | {"podcast": {"source": "msp_podcast"}}},
            "the corpora emospeech2024 and podcast have test rows without labels, and a file is of",
        ),
        (
            {"classes": ["happy", "fear"], "labels": {"unlabelled": "drop"}},
            "class 'happy' is no label of emospeech2024",
        ),
        (
            {"systems": {"text_functionals": NETWORK}, "folds": HELD_OUT},
            "chooses its epoch on dev rows, and training on all labelled rows leaves none",
        ),
        (
            {"submission": handed_in("categories")},
            "emospeech2024 has no task 'categories'; it has task_1, task_2",
        ),
        (
            {"submission": handed_in(stage="fused")},
            "is 'text_functionals' at stage 'fused', which is no fusion of categories; there are none",
        ),
        (BOTH | {"submission": handed_in(system="theirs")}, "theirs is given, and only what is"),
        (
            BOTH | {"submission": handed_in(system="both", stage="fused")},
            "theirs is given, and only what is trained here can predict",
        ),
        (
            {"submission": handed_in(stage="calibrated"), "calibration": None},
            "task_1.stage is 'calibrated', but the study has no 'calibration'",
        ),
        (REBALANCED | {"folds": HELD_OUT}, "which needs dev rows, and training on all labelled"),
        (
            {"submission": handed_in(trained_on="train")},
            "is 'train', but the study has 5 folds, and no one system is that of all",
        ),
    ],
)
def test_what_would_fail_after_hours_of_training_is_refused_before(changes, fault):
    with pytest.raises(ValueError, match=re.escape(fault)):
        StudyConfig.model_validate(STUDY | changes)


ODYSSEY = yaml.safe_load((ROOT / "studies/odyssey2024.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("attributes", "named", "fault"),
    [
        (
            {"scale": [1, 5]},
            {},
            "dominance from 1 to 7; `attributes` has arousal, valence, dominance",
        ),
        (
            {"names": ["arousal", "valence"], "scale": [1, 7]},
            {},
            "has arousal, valence from 1 to 7",
        ),
        (
            ODYSSEY["attributes"],
            {"system": "llama2_7b_attributes", "stage": "rebalanced"},
            "attributes.stage is 'rebalanced'; attributes are raw or fused",
        ),
        (ODYSSEY["attributes"], {"system": "interpolation"}, "which is no fusion of attributes"),
    ],
)
def test_attributes_are_handed_in_on_the_scale_of_the_challenge(attributes, named, fault):
    tasks = {"attributes": ODYSSEY["submission"]["tasks"]["attributes"] | named}
    submission = ODYSSEY["submission"] | {"tasks": tasks}
    changes = {"attributes": attributes, "submission": submission}
    with pytest.raises(ValueError, match=re.escape(fault)):
        StudyConfig.model_validate(ODYSSEY | changes)


def test_a_network_that_chose_its_epoch_is_handed_in_as_the_one_fold_trained_it():
    """TalTech's way: dev rows choose epochs and weights, so nothing may train on them afterwards."""
    systems = {name: dict(system) for name, system in ODYSSEY["systems"].items()}
    llama = systems["llama2_7b"]
    llama["training"] = llama["training"] | {"select": "best"}
    study = StudyConfig.model_validate(ODYSSEY | {"systems": systems})
    assert members(study, "categories") == ["wav2vec2_bert_lda", "llama2_7b"]
    once_more = ODYSSEY["submission"] | {"trained_on": "all_labelled"}
    with pytest.raises(ValueError, match="llama2_7b chooses its epoch on dev rows"):
        StudyConfig.model_validate(ODYSSEY | {"systems": systems, "submission": once_more})


def test_a_contrast_hands_in_nothing():
    contrast = {"plain": {"folds": {"protocol": "k_fold", "k": 3}}}
    study = StudyConfig.model_validate(STUDY | {"contrasts": contrast})
    assert study.contrast("plain").submission is None


def test_a_submission_is_asked_for_where_a_study_has_one():
    config = {"studies": ["emospeech2024", "demo"], "paths": {"emospeech2024": "/x"}}
    plan = Plan(*load(config, ROOT / "studies"), scripts=ROOT / "workflow/scripts")
    assert plan.submissions() == ["results/emospeech2024/submission/results.csv"]
    inputs = plan.submission_inputs(SimpleNamespace(study="emospeech2024", file="results"))
    assert inputs["utterances"] == "results/emospeech2024/final_utterances.parquet"
    assert inputs["systems"] == ["results/emospeech2024/seed-1/systems/gemma/fold-final"]
    assert not any(inputs[kind] for kind in ("calibrations", "fusions", "dev"))


def planned(study, file="results", **tasks):
    changes = {"submission": study["submission"] | {"tasks": tasks}} if tasks else {}
    site = SiteConfig.model_validate(
        {"studies": ["x"], "paths": {"emospeech2024": "/x", "msp_podcast": "/x"}}
    )
    found = StudyConfig.model_validate(study | changes)
    plan = Plan(site, {"x": found}, scripts=ROOT / "workflow/scripts")
    return plan, plan.submission_inputs(SimpleNamespace(study="x", file=file))


def test_what_systems_are_calibrated_and_fused_with_is_fitted_first():
    """Every stage before: a raw one needs nothing, a fused one what its systems need."""
    study = yaml.safe_load((ROOT / "studies/emospeech2024.yaml").read_text(encoding="utf-8"))
    base = "results/x/seed-1"
    fused = {"system": "texts", "stage": "fused"}
    plan, inputs = planned(study, task_1=fused, task_2={"system": "text_words"})
    texts = study["fusions"]["texts"]["systems"]
    assert inputs["systems"] == [f"{base}/systems/{name}/fold-final" for name in texts]
    assert inputs["calibrations"] == [f"{base}/calibrations/{name}.json" for name in texts]
    assert inputs["fusions"] == [f"{base}/fusions/texts.json"]
    settings = json.loads(plan.submission_settings(SimpleNamespace(study="x", file="results")))
    assert settings["tasks"]["task_1"]["stage"] == "rebalanced", "the fusion's own"
    assert settings["tasks"]["task_2"]["stage"] == "raw"


def test_the_one_folds_networks_are_asked_once_more_and_not_trained():
    plan, inputs = planned(ODYSSEY | {"prior": {"target": "bbse"}}, file="categories")
    base = "results/x/seed-1"
    assert inputs["utterances"] == "results/x/hidden_utterances.parquet"
    assert inputs["systems"] == [
        f"{base}/systems/{name}/hidden" for name in ("wav2vec2_bert_lda", "llama2_7b")
    ]
    assert inputs["dev"][0] == f"{base}/posteriors/raw/wav2vec2_bert_lda.parquet"
    backend = plan.hidden_inputs(SimpleNamespace(study="x", seed="1", system="wav2vec2_bert_lda"))
    assert backend["system"] == f"{base}/systems/wav2vec2_bert_lda/fold-0"
    embedded = [f"{base}/systems/wav2vec2_bert/embeddings-{x}.parquet" for x in ("0", "hidden")]
    assert backend["embeddings"] == embedded
    network = SimpleNamespace(study="x", seed="1", system="wav2vec2_bert", fold="hidden")
    inputs = plan.embedding_inputs(network)
    assert inputs["system"] == f"{base}/systems/wav2vec2_bert/fold-0"
    assert inputs["folds"] == "results/x/hidden_folds.parquet"
    attributes = plan.submission_inputs(SimpleNamespace(study="x", file="attributes"))
    assert attributes["fusions"] == [f"{base}/attribute_fusions/attributes.json"]


def test_a_backend_on_embeddings_has_a_final_network_of_its_own(tmp_path):
    """Embeddings of a fold's network, or rows of a fold, would leave a fifth untrained on."""
    systems = {
        "audio": {"family": "speech_classifier", "model": "a/b", "adaptation": "full"},
        "lda": {"family": "embedding_backend", "embeddings": "audio", "dim": 5},
    }
    changes = {
        "systems": systems,
        "paper_values": [],
        "submission": STUDY["submission"] | {"tasks": {"task_2": {"system": "lda"}}},
    }
    study = StudyConfig.model_validate(STUDY | changes)
    site = SiteConfig.model_validate({"studies": ["x"], "paths": {"emospeech2024": "/x"}})
    plan = Plan(site, {"x": study}, scripts=ROOT / "workflow/scripts")
    job = SimpleNamespace(study="x", seed="1", fold="final", system="lda")
    inputs = plan.fold_inputs(job)
    assert inputs["utterances"] == "results/x/final_utterances.parquet"
    assert inputs["folds"] == "results/x/final_folds.parquet"
    assert inputs["embeddings"] == ["results/x/seed-1/systems/audio/embeddings-final.parquet"]
    job.system = "audio"
    inputs = plan.embedding_inputs(job)
    assert inputs["system"] == "results/x/seed-1/systems/audio/fold-final"
    assert inputs["folds"] == "results/x/final_folds.parquet"
