"""Arousal, valence and dominance: learnt alone or beside the classes, in one phase or several."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import tiny_models
from serflow.attributes import Attributes, Scale, concatenate, read_attributes
from serflow.concordance import concordance
from serflow.errors import UserError
from serflow.nets.heads import DenseHead
from serflow.systems import saved
from serflow.systems.fold_run import join_fold
from serflow.systems.interface import build
from serflow.tables import UTTERANCES
from toy_examples import accuracy, context, rated, sentences, tones

SCALE = Scale(("arousal", "valence"), 1, 7)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_models.w2v_bert(tmp_path_factory.mktemp("m") / "w2v-bert"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    base = tmp_path_factory.mktemp("tones")
    return (
        rated(tones(base / "train", 60, seed=1)),
        rated(tones(base / "test", 30, seed=2), seed=1),
    )


def speech(model: str, folder, predicts="attributes", **changes):
    training = {"epochs": 8, "batch_size": 12, "learning_rate": 1e-2} | changes.pop("training", {})
    head = {"bottleneck": 8, "hidden": 16} | changes.pop("head", {})
    settings = {"model": model, "adaptation": "full", "predicts": predicts}
    settings |= {"head": head, "training": training} | changes
    return build("speech_classifier", settings, context(folder, scale=SCALE))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training": {"attribute_loss": "mse"}},
        {"crop": {"min_s": 0.2, "max_s": 0.4}},
        {"head": {"type": "projector", "pooling": "mean"}},
    ],
    ids=["ccc", "mse", "crops", "projector"],
)
def test_attributes_alone_are_learnt(model, data, tmp_path, changes):
    system = speech(model, tmp_path, **changes).fit(data[0], None)
    predicted = system.predict(data[1].without_labels())
    assert predicted.log_proba is None
    assert predicted.attributes.shape == (30, 2)
    assert concordance(data[1].attributes, predicted.attributes).mean() > 0.6
    assert predicted.attributes.min() >= 1
    assert predicted.attributes.max() <= 7


def test_both_are_learnt_together_and_saved_whole(model, data, tmp_path):
    system = speech(model, tmp_path, "both").fit(data[0], None)
    predicted = system.predict(data[1].without_labels())
    assert accuracy(predicted.log_proba, data[1]) > 0.8
    assert np.exp(predicted.log_proba).sum(axis=1) == pytest.approx(1)
    assert concordance(data[1].attributes, predicted.attributes).mean() > 0.6
    system.save(tmp_path / "saved")
    again = saved.load(tmp_path / "saved").predict(data[1].without_labels())
    assert again.log_proba.tobytes() == predicted.log_proba.tobytes()
    assert again.attributes.tobytes() == predicted.attributes.tobytes()


def test_a_text_system_learns_both(tmp_path):
    train, test = rated(sentences(60, seed=1)), rated(sentences(30, seed=2))
    settings = {"model": str(tiny_models.roberta(tmp_path / "roberta")), "predicts": "both"}
    settings["training"] = {"epochs": 20, "batch_size": 10, "learning_rate": 1e-2}
    system = build("text_classifier", settings, context(tmp_path, scale=SCALE))
    predicted = system.fit(train, None).predict(test.without_labels())
    assert accuracy(predicted.log_proba, test) > 0.8
    assert concordance(test.attributes, predicted.attributes).mean() > 0.5


def test_the_head_is_tanh_and_one_linear_layer_on_the_dense_layer():
    """TalTech, section 3.1; an attribute head before the nonlinearity would be another model."""
    head = DenseHead(6, 4, n_classes=0, n_attributes=3).eval()
    pooled = torch.randn(5, 6)
    hidden = torch.tanh(head.norm(torch.relu(head.dense(pooled))))
    expected = hidden @ head.output.attributes.weight.T + head.output.attributes.bias
    assert torch.allclose(head(pooled), expected)
    assert DenseHead(6, 4, n_classes=2, n_attributes=3)(pooled).shape == (5, 5)


def test_long_utterances_have_the_mean_of_their_chunks(model, data, tmp_path):
    system = speech(model, tmp_path, max_seconds=0.4, training={"epochs": 1}).fit(data[0], None)
    chunks, owners = system._chunks(data[1])
    found = system.predict(data[1].without_labels()).attributes
    alone = system._score(chunks, np.arange(len(owners)))
    for i in (0, 7, 29):
        mean = SCALE.from_unit(alone[owners == i].mean(axis=0))
        assert found[i] == pytest.approx(mean, abs=1e-6)


PHASES = {
    "crop": {"min_s": 0.2, "max_s": 0.3},
    "training": {"epochs": 2},
    "further_phases": [
        {
            "crop": {"min_s": 0.4, "max_s": 0.6},
            "training": {
                "epochs": 2,
                "batch_size": 10,
                "learning_rate": 1e-3,
                "balanced_sampling": True,
            },
        }
    ],
}


def few_of_one_class(examples):
    """An unbalanced part of the examples: 20, 15 and 4 of the classes."""
    keep = np.concatenate(
        [np.flatnonzero(examples.labels == c)[:n] for c, n in ((0, 20), (1, 15), (2, 4))]
    )
    return replace(
        examples,
        utterance_ids=[examples.utterance_ids[i] for i in keep],
        labels=examples.labels[keep],
        speakers=examples.speakers[keep],
        attributes=examples.attributes[keep],
    )


def test_a_further_phase_goes_on_from_the_weights_and_sets_the_prior(model, data, tmp_path):
    """TalTech, section 3.1: short chunks as they come, then longer ones of balanced categories."""
    train = few_of_one_class(data[0])
    system = speech(model, tmp_path, "both", **PHASES).fit(train, None)
    assert system.train_prior_ == pytest.approx([1 / 3] * 3)
    (first,) = system.facts_["earlier_phases"]
    assert (first["steps"], system.facts_["steps"]) == (2 * 4, 2 * 4)
    assert not first["balanced_sampling"]
    assert system.facts_["balanced_sampling"]
    alone = speech(model, tmp_path / "b", "both", **PHASES | {"further_phases": []})
    fresh = alone.fit(train, None)
    # The second phase starts where the first one ended, so a tiny step leaves it near there.
    gentle = {**PHASES, "further_phases": [PHASES["further_phases"][0] | {"training": SMALL_STEP}]}
    near = speech(model, tmp_path / "c", "both", **gentle).fit(train, None)
    a, b = (torch.cat([p.flatten() for p in s.net_.parameters()]) for s in (fresh, near))
    assert not torch.equal(a, b)
    assert torch.allclose(a, b, atol=1e-4)


SMALL_STEP = {"epochs": 1, "batch_size": 10, "learning_rate": 1e-6}


@pytest.mark.parametrize("lost", ["the end", "the second phase", "half of the second phase"])
def test_killed_in_any_phase_training_ends_with_the_same_bits(model, data, tmp_path, lost):
    train = few_of_one_class(data[0])

    def run(folder):
        system = speech(model, folder, **PHASES).fit(train, None)
        return system.predict(data[1].without_labels()).attributes, system.facts_

    expected, _ = run(tmp_path / "whole")
    run(tmp_path / "cut")
    second = tmp_path / "cut" / "checkpoints" / "phase-2"
    kept = sorted(second.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    assert len(kept) == 2
    if lost == "the second phase":
        shutil.rmtree(second)
    elif lost == "half of the second phase":
        shutil.rmtree(kept[1])
    found, facts = run(tmp_path / "cut")
    assert found.tobytes() == expected.tobytes()
    assert facts["earlier_phases"][0]["resumed_at_step"] == 8, "the first phase was not run again"


def test_utterances_without_ratings_train_the_classes_alone_and_are_counted(model, data, tmp_path):
    attributes = data[0].attributes.copy()
    attributes[::3] = np.nan
    attributes[1, 0] = np.nan
    train = replace(data[0], attributes=attributes)
    system = speech(model, tmp_path, "both").fit(train, None)
    assert system.facts_["unrated_utterances"] == 21
    predicted = system.predict(data[1].without_labels())
    assert concordance(data[1].attributes, predicted.attributes).mean() > 0.4
    assert np.isfinite(system.facts_["loss_history"]).all()


def test_the_best_epoch_is_that_of_the_best_ccc_where_nothing_else_is_predicted(
    model, data, tmp_path
):
    training = {"select": "best", "epochs": 5, "learning_rate": 0.3, "schedule": "constant"}
    system = speech(model, tmp_path, training=training).fit(*data)
    history = system.facts_["dev_history"]
    assert system.facts_["chosen_epoch"] == 1 + int(np.argmax(history))
    predicted = system.predict(data[1].without_labels()).attributes
    unclipped = concordance(data[1].attributes, predicted).mean()
    assert unclipped == pytest.approx(max(history), abs=0.15)


def test_predictions_never_see_the_ratings(model, data, tmp_path):
    system = speech(model, tmp_path, training={"epochs": 1}).fit(data[0], None)
    wrong = replace(data[1], attributes=8 - data[1].attributes)
    found = [system.predict(x).attributes.tobytes() for x in (data[1], wrong)]
    assert found[0] == found[1]


def table(predicted, reference=((2.0, 3.0), (np.nan, np.nan))) -> Attributes:
    rows = pd.DataFrame(
        {"utterance_id": ["a", "b"], "system": "s", "fold": "0", "role": ["dev", "test"]}
    )
    return Attributes(rows, np.array(predicted), np.array(reference), SCALE, 1, "digest")


def test_the_table_comes_back_as_it_was_written(tmp_path):
    written = table([[1.0, 7.0], [4.5, 3.0]])
    written.write(tmp_path / "a.parquet")
    read = read_attributes(tmp_path / "a.parquet")
    assert read.scale == SCALE
    assert (read.seed, read.system_digest) == (1, "digest")
    np.testing.assert_array_equal(read.predicted, written.predicted)
    np.testing.assert_array_equal(read.reference, written.reference)
    assert concatenate([read, read]).predicted.shape == (4, 2)
    with pytest.raises(UserError, match="different scales"):
        concatenate([read, replace(read, scale=Scale(SCALE.names, 0, 1))])


@pytest.mark.parametrize("bad", [7.1, 0.9, np.nan, np.inf])
def test_predictions_off_the_scale_are_not_written(bad, tmp_path):
    with pytest.raises(UserError, match=r"predictions of 1 rows .* scale 1 to 7: b"):
        table([[1.0, 2.0], [2.0, bad]]).write(tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_the_ends_of_the_scale_are_those_of_the_challenges_formula():
    """Odyssey 2024: value = clip(6 p + 1, 1, 7) of a prediction p in [0, 1]; ours is 2 p - 1."""
    p = np.array([-0.1, 0.0, 0.25, 1.0, 1.2])
    assert SCALE.from_unit(2 * p - 1) == pytest.approx(np.clip(6 * p + 1, 1, 7))
    assert SCALE.to_unit(SCALE.from_unit(p)) == pytest.approx(np.minimum(p, 1))


def fold_tables(arousal):
    names = [f"x/{i}" for i in range(len(arousal))]
    utterances = pd.DataFrame(
        {"utterance_id": names, "corpus": "x", "label": ["angry", "sad"] * (len(arousal) // 2)}
    ).reindex(columns=list(UTTERANCES.columns))
    utterances["arousal"], utterances["valence"] = arousal, 3.0
    roles = ["train"] * (len(arousal) - 1) + ["test"]
    return utterances, pd.DataFrame({"utterance_id": names, "fold": "0", "role": roles})


def test_ratings_off_the_scale_or_none_at_all_are_named_before_training():
    """A corpus rated 1 to 5 in a study that says 1 to 7 would give a plausible, wrong CCC."""
    with pytest.raises(UserError, match=r"1 utterances are outside the scale of 1 to 7: x/2"):
        join_fold(*fold_tables([2.0, 3.0, 70.0, 4.0]), "0", ["angry", "sad"], (), SCALE)
    with pytest.raises(UserError, match=r"1 training utterances have a value of arousal"):
        join_fold(*fold_tables([2.0, None, None, 4.0]), "0", ["angry", "sad"], (), SCALE)
    fold = join_fold(*fold_tables([2.0, 3.0, None, 4.0]), "0", ["angry", "sad"], (), SCALE)
    assert np.isnan(fold.examples("train").attributes[2, 0])
    other = join_fold(*fold_tables([2.0, 3.5, None, 4.0]), "0", ["angry", "sad"], (), SCALE)
    assert fold.data_digest() != other.data_digest()
