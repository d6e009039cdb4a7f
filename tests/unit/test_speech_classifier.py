"""The speech family learns from real samples, and scores an utterance for what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_models
from serflow.batching import Draw
from serflow.nets.encoders import FrontEnd
from serflow.systems.interface import build
from serflow.systems.speech_inputs import Crops
from toy_examples import CLASSES, accuracy, context, speech_examples, tones

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["linear_q", "linear_v"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_models.w2v_bert(tmp_path_factory.mktemp("m") / "w2v-bert"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    base = tmp_path_factory.mktemp("tones")
    return tones(base / "train", 60, seed=1), tones(base / "test", 30, seed=2)


def settings(model: str, **changes) -> dict:
    training = {"epochs": 6, "batch_size": 8, "learning_rate": 1e-2} | changes.pop("training", {})
    head = {"bottleneck": 8, "hidden": 16}
    return {"model": model, "adaptation": "full", "head": head, "training": training} | changes


@pytest.fixture(scope="module")
def fitted(model, data, tmp_path_factory):
    system = build("speech_classifier", settings(model), context(tmp_path_factory.mktemp("c")))
    return system.fit(data[0], None)


def test_it_learns_tones_above_chance(fitted, data):
    scores = fitted.predict(data[1].without_labels()).log_proba
    assert scores.shape == (30, 3)
    assert scores.dtype == np.float64
    assert np.exp(scores).sum(axis=1) == pytest.approx(1)
    assert accuracy(scores, data[1]) > 0.8
    assert fitted.train_prior_ == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"adaptation": "lora", "lora": LORA},
        {"adaptation": "frozen"},
        {"initial": "random", "crop": {"min_s": 0.2, "max_s": 0.4}},
        {"training": {"gradient_checkpointing": True, "epochs": 5}},
    ],
    ids=["lora", "frozen", "random and crops", "gradient checkpointing"],
)
def test_every_adaptation_learns(model, data, tmp_path, changes):
    system = build("speech_classifier", settings(model, **changes), context(tmp_path))
    system.fit(data[0], None)
    assert accuracy(system.predict(data[1].without_labels()).log_proba, data[1]) > 0.6


@pytest.mark.parametrize(
    ("kind", "norm"), [("wav2vec2", "group"), ("hubert", "layer"), ("wavlm", "group")]
)
def test_waveform_encoders_train_by_the_same_code(tmp_path, data, kind, norm):
    folder = tiny_models.conv_encoder(tmp_path / "m", kind, norm)
    chosen = settings(str(folder), training={"epochs": 3})
    system = build("speech_classifier", chosen, context(tmp_path)).fit(data[0], None)
    losses = system.facts_["loss_history"]
    assert losses[-1] < losses[0]
    together = system.predict(data[1]).log_proba
    alone = system.predict(first_of(data[1], 1)).log_proba
    assert np.allclose(together[:1], alone, atol=1e-5)


def first_of(examples, n: int):
    return replace(
        examples,
        utterance_ids=examples.utterance_ids[:n],
        labels=None,
        speakers=examples.speakers[:n],
    )


def test_predictions_do_not_depend_on_the_company(fitted, data):
    together = fitted.predict(data[1]).log_proba
    for n in (1, 2, 7):
        assert np.allclose(together[:n], fitted.predict(first_of(data[1], n)).log_proba, atol=1e-5)


def test_test_labels_have_no_influence(fitted, data):
    wrong = replace(data[1], labels=(data[1].labels + 1) % 3)
    with_labels = fitted.predict(wrong).log_proba
    assert with_labels.tobytes() == fitted.predict(data[1].without_labels()).log_proba.tobytes()


def test_columns_follow_the_class_order(model, data, tmp_path):
    """Classes given in another order come out in that order."""
    train, test = data
    turned = replace(train, labels=2 - train.labels)
    where = context(tmp_path, classes=CLASSES[::-1])
    system = build("speech_classifier", settings(model), where).fit(turned, None)
    scores = system.predict(test).log_proba
    assert accuracy(scores[:, ::-1], test) > 0.8


def test_the_same_seed_gives_the_same_bits(model, data, tmp_path):
    chosen = settings(model, crop={"min_s": 0.2, "max_s": 0.4}, training={"epochs": 2})
    runs = [
        build("speech_classifier", chosen, context(tmp_path / name, seed)).fit(data[0], None)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, again, other = (run.predict(data[1]).log_proba.tobytes() for run in runs)
    assert first == again != other


def test_lora_trains_adapters_and_head_only(model, data, tmp_path):
    chosen = settings(model, adaptation="lora", lora=LORA, training={"epochs": 1})
    system = build("speech_classifier", chosen, context(tmp_path))
    system._build()
    before = {n: p.clone() for n, p in system.net_.state_dict().items()}
    system.fit(data[0], None)
    moved = [n for n, p in system.net_.state_dict().items() if not torch.equal(before[n], p)]
    assert moved
    assert all("lora_" in name or name.startswith(("pooling.", "head.")) for name in moved)
    facts = system.facts_
    assert facts["trainable_parameters"] < facts["total_parameters"]


def test_a_long_utterance_is_the_average_of_its_chunks(fitted, tmp_path):
    t = np.arange(40_000) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * 800 * t) * np.linspace(0.2, 1, len(t))
    waves = {"long": wave, "first": wave[:20_000], "second": wave[20_000:]}
    examples = speech_examples(tmp_path, waves, None)
    fitted.settings = fitted.settings.model_copy(update={"max_seconds": 1.3})
    try:
        scores = np.exp(fitted.predict(examples).log_proba)
    finally:
        fitted.settings = fitted.settings.model_copy(update={"max_seconds": 30.0})
    assert np.allclose(scores[0], (scores[1] + scores[2]) / 2, atol=1e-5)


def test_training_never_sees_more_than_max_seconds_at_once(model, data, tmp_path):
    system = build("speech_classifier", settings(model, max_seconds=0.4), context(tmp_path))
    system._build()
    _, inputs = system._trained_on(data[0], system.settings.phases[0])
    assert isinstance(inputs, Crops)
    assert inputs.lengths([Draw(0, i, i) for i in range(60)]).max() <= 6400


def test_crops_depend_on_epoch_and_position_and_stay_inside(model, data):
    train = data[0]
    spans = [(name, 0, len(train.audio.samples(name))) for name in train.utterance_ids]
    crops = Crops(train.audio, spans, FrontEnd(model), 3200, 6400, seed=1)
    draws = [Draw(0, i, i) for i in range(60)]
    for draw, length in zip(draws, crops.lengths(draws), strict=True):
        name, first, end = crops.span(draw)
        n = spans[draw.row][2]
        assert name == spans[draw.row][0]
        assert 0 <= first < end <= n
        assert end - first == length == min(n, np.clip(end - first, 3200, 6400))
    assert crops.span(draws[3]) == crops.span(draws[3])
    later = [crops.span(Draw(1, i, i)) for i in range(60)]
    assert later != [crops.span(draw) for draw in draws]
    assert crops.span(Draw(0, 7, 3))[1:] != crops.span(Draw(0, 3, 3))[1:]


def test_whole_utterances_are_extracted_once(model, data, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        FrontEnd,
        "__call__",
        lambda self, x, _real=FrontEnd.__call__: calls.append(1) or _real(self, x),
    )
    chosen = settings(model, training={"epochs": 3})
    build("speech_classifier", chosen, context(tmp_path)).fit(data[0], None)
    assert len(calls) == 60


def test_a_very_short_utterance_is_scored(fitted, tmp_path):
    examples = speech_examples(tmp_path, {"click": np.full(40, 0.1)}, None)
    assert np.isfinite(fitted.predict(examples).log_proba).all()


def test_nothing_to_predict_gives_no_rows(fitted, data):
    assert fitted.predict(first_of(data[1], 0)).log_proba.shape == (0, 3)


def test_class_weights_and_balanced_sampling_reach_the_prior(model, data, tmp_path):
    train = data[0]
    keep = np.flatnonzero((train.labels != 2) | (np.arange(60) % 3 == 0))
    skewed = replace(
        train,
        utterance_ids=[train.utterance_ids[i] for i in keep],
        labels=train.labels[keep],
        speakers=train.speakers[keep],
    )
    counts = np.bincount(skewed.labels)
    for name, how, expected in (
        ("plain", {}, counts / counts.sum()),
        ("weights", {"class_weights": "inverse"}, [1 / 3] * 3),
        ("sampling", {"balanced_sampling": True}, [1 / 3] * 3),
    ):
        chosen = settings(model, training={"epochs": 1} | how)
        system = build("speech_classifier", chosen, context(tmp_path / name)).fit(skewed, None)
        assert system.train_prior_ == pytest.approx(np.asarray(expected)), name
