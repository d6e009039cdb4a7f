"""A frozen encoder hears each utterance once; what is trained on that is what it would have been."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_models
from serflow.config.families.speech_classifier import SpeechClassifierConfig
from serflow.errors import UserError
from serflow.layer_means import LayerMeans, write_layer_means
from serflow.nets import means
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.systems.interface import build
from toy_examples import context, tones

HEADS = {
    "mixed": {"layers": "weighted_sum", "pooling": "mean", "type": "projector", "hidden": 8},
    "last": {"layers": "last", "pooling": "mean", "hidden": 16},
}


@pytest.fixture(scope="module", params=["hubert", "w2v_bert"])
def model(request, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("m") / request.param
    if request.param == "hubert":
        return str(tiny_models.hubert_classifier(folder))
    return str(tiny_models.w2v_bert(folder))


def with_means(model, examples, folder):
    """The same examples, heard beforehand."""
    encoder = SpeechEncoder(model, adaptation="frozen")
    ids = examples.utterance_ids
    found = means.layer_means(encoder, FrontEnd(model), examples.audio, ids)
    samples = [round(16_000 * examples.audio.seconds(name)) for name in ids]
    folder.mkdir()
    write_layer_means(found, ids, samples, folder / "m.npy", folder / "m.parquet")
    store = LayerMeans([(folder / "m.npy", folder / "m.parquet")])
    return replace(examples, audio=None, layer_means=store.rows(ids))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_training_on_them_is_training_on_the_audio(model, head, tmp_path):
    """Same batches, same losses; and the same posteriors to 1e-6 by the same weights.

    Not so close after training: Adam divides by gradients that may be no more than rounding.
    """
    torch.set_num_threads(1)
    train, test = tones(tmp_path / "train", 24, seed=1), tones(tmp_path / "test", 12, seed=2)
    training = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-4}
    block = {"model": model, "adaptation": "frozen", "head": head, "training": training}
    slow = build("speech_classifier", block, context(tmp_path / "a")).fit(train, None)
    fast = build("speech_classifier", block, context(tmp_path / "b"))
    fast.fit(with_means(model, train, tmp_path / "x"), None)
    np.testing.assert_allclose(
        fast.facts_["loss_history"], slow.facts_["loss_history"], rtol=0, atol=1e-5
    )
    heard = fast.predict(with_means(model, test, tmp_path / "y").without_labels()).log_proba
    expected = slow.predict(test.without_labels()).log_proba
    np.testing.assert_allclose(heard, expected, rtol=0, atol=1e-4)
    by_ear = fast.predict(test.without_labels()).log_proba
    np.testing.assert_allclose(by_ear, heard, rtol=0, atol=1e-6)


class Waves:
    """An audio store in memory."""

    def __init__(self, **waves):
        self.waves = waves

    def seconds(self, name):
        return len(self.waves[name]) / 16_000

    def samples(self, name):
        return self.waves[name]


def test_pieces_of_a_long_utterance_count_by_their_frames(model, monkeypatch):
    wave = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    encoder, front_end = SpeechEncoder(model, adaptation="frozen"), FrontEnd(model)
    halves = Waves(first=wave[:8_000], second=wave[8_000:])
    expected = means.layer_means(encoder, front_end, halves, ["first", "second"]).mean(axis=0)
    monkeypatch.setattr(means, "PIECE_S", 0.5)
    (found,) = means.layer_means(encoder, front_end, Waves(whole=wave), ["whole"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_only_what_never_changes_is_heard_once():
    def inputs(**changes):
        block = {"family": "speech_classifier", "model": "m", "adaptation": "frozen"}
        head = {"pooling": "mean"}
        return SpeechClassifierConfig.model_validate(block | {"head": head} | changes).inputs

    assert inputs() == ("layer_means",)
    assert inputs(head={"pooling": "attentive"}) == ("audio",)
    assert inputs(crop={"min_s": 1, "max_s": 2}) == ("audio",)
    assert inputs(augmentation={"white_noise": {}}) == ("audio",)
    assert inputs(adaptation="full") == ("audio",)


def test_an_utterance_without_means_is_named(tmp_path):
    array, table = tmp_path / "m.npy", tmp_path / "m.parquet"
    write_layer_means(np.zeros((1, 3, 4), np.float32), ["a"], [9], array, table)
    with pytest.raises(UserError, match="1 utterances have no layer means: b"):
        LayerMeans([(array, table)]).rows(["a", "b"])
    np.save(array, np.zeros((2, 3, 4), np.float32))
    with pytest.raises(UserError, match=r"m\.npy has 2 rows and .*m\.parquet 1"):
        LayerMeans([(array, table)])
