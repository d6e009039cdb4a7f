"""What is handed in: one file, complete, in order, by systems that saw no hidden label."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from runs import ROOT
from serflow.config.load import load
from serflow.config.site import SiteConfig
from serflow.config.study import StudyConfig
from serflow.config.submission import CHALLENGES
from serflow.context import Context
from serflow.corpora import emospeech2024
from serflow.errors import UserError
from serflow.final_fold import final_fold
from serflow.plan import Plan
from serflow.posteriors import read_posteriors
from serflow.predictions import read_predictions
from serflow.submission.emospeech import check_results, expected_ids, results_csv
from serflow.systems.fold_run import join_fold, train_and_score
from serflow.systems.interface import build
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
    rows, folds = final_fold(labelled, corpus)
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
    rows, folds = final_fold(labelled, corpus)
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
        final_fold(labelled, labelled)


def test_a_hidden_utterance_is_never_trained_on(corpus):
    with pytest.raises(UserError, match="3 utterances to be predicted are trained on as well"):
        final_fold(corpus, corpus)


STUDY = yaml.safe_load((ROOT / "studies/emospeech2024.yaml").read_text(encoding="utf-8"))
STUDY |= {
    "systems": {"text_functionals": STUDY["systems"]["text_functionals"]},
    "fusions": {},
    "primary": None,
    "paper_values": [],
    "submission": {"format": "emospeech2024", "tasks": {"task_1": "text_functionals"}},
}
NETWORK = {
    "family": "text_classifier", "model": "results/models/x", "transcripts": "given",
    "training": {"select": "best"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"labels": {}}, "`labels.unlabelled` is 'fail'; set it to 'drop'"),
        (
            {"submission": {"format": "emospeech2024", "tasks": {"task_1": "svm"}}},
            "is 'svm', which",
        ),
        ({"corpora": {"demo": {"source": "demo"}}}, "which is none of the corpora"),
        (
            {"classes": ["happy", "fear"], "labels": {"unlabelled": "drop"}},
            "class 'happy' is no label of emospeech2024",
        ),
        (
            {
                "systems": {"text_functionals": NETWORK},
                "folds": {"protocol": "stratified_k_fold", "dev": "next_fold"},
            },
            "chooses its epoch on dev rows, and training on all labelled rows leaves none",
        ),
    ],
)
def test_what_would_fail_after_hours_of_training_is_refused_before(changes, fault):
    with pytest.raises(ValueError, match=fault):
        StudyConfig.model_validate(STUDY | changes)


def test_a_contrast_hands_in_nothing():
    contrast = {"plain": {"folds": {"protocol": "k_fold", "k": 3}}}
    study = StudyConfig.model_validate(STUDY | {"contrasts": contrast})
    assert study.contrast("plain").submission is None


def test_a_submission_is_asked_for_where_a_study_has_one():
    config = {"studies": ["emospeech2024", "demo"], "paths": {"emospeech2024": "/x"}}
    plan = Plan(*load(config, ROOT / "studies"), scripts=ROOT / "workflow/scripts")
    assert plan.submissions() == ["results/emospeech2024/submission/results.csv"]
    (final,) = plan.finals("emospeech2024")
    assert final == "results/emospeech2024/seed-1/systems/gemma/fold-final"


def test_a_backend_on_embeddings_has_a_final_network_of_its_own(tmp_path):
    """Embeddings of a fold's network, or rows of a fold, would leave a fifth untrained on."""
    systems = {
        "audio": {"family": "speech_classifier", "model": "a/b", "adaptation": "full"},
        "lda": {"family": "embedding_backend", "embeddings": "audio", "dim": 5},
    }
    changes = {
        "systems": systems,
        "paper_values": [],
        "submission": STUDY["submission"] | {"tasks": {"task_2": "lda"}},
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
