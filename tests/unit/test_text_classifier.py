"""The text family: words decide, padding does not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForSequenceClassification

import tiny_models
from serflow.nets import weights
from serflow.nets.adaptation import Lora, adapt
from serflow.nets.text import TextNet, Tokens
from serflow.systems.interface import build
from toy_examples import accuracy, context, sentences, text_examples

LORA = {"rank": 8, "alpha": 16, "dropout": 0.0, "target_modules": ["q_proj", "v_proj", "up_proj"]}

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("models")
    return {
        "llama": str(tiny_models.llama(base / "llama")),
        "llama without bos": str(tiny_models.llama(base / "bare", bos=False)),
        "roberta": str(tiny_models.roberta(base / "roberta")),
    }


@pytest.fixture(scope="module")
def data():
    return sentences(90, seed=1), sentences(45, seed=2)


def settings(model: str, **changes) -> dict:
    training = {"epochs": 12, "batch_size": 8, "learning_rate": 4e-3} | changes.pop("training", {})
    return {"model": model, "adaptation": "full", "training": training} | changes


@pytest.fixture(scope="module")
def fitted(models, data, tmp_path_factory):
    return build(
        "text_classifier", settings(models["llama"]), context(tmp_path_factory.mktemp("c"))
    ).fit(data[0], None)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llama", {}),
        ("llama", {"adaptation": "lora", "lora": LORA}),
        ("llama", {"adaptation": "lora", "lora": LORA, "quantisation": "nf4"}),
        ("roberta", {}),
    ],
    ids=["llama full", "llama lora", "llama lora in 4 bits", "roberta full"],
)
def test_it_learns_the_telling_words(models, data, tmp_path, name, changes):
    system = build("text_classifier", settings(models[name], **changes), context(tmp_path))
    system.fit(data[0], None)
    scores = system.predict(data[1].without_labels()).log_proba
    assert scores.shape == (45, 3)
    assert scores.dtype == np.float64
    assert np.exp(scores).sum(axis=1) == pytest.approx(1)
    assert accuracy(scores, data[1]) > 0.8


def padded(rows: list[list[int]], side: str, pad: int) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    inputs, mask = [], []
    for row in rows:
        fill, gap = [pad] * (width - len(row)), [False] * (width - len(row))
        real = [True] * len(row)
        inputs.append(fill + row if side == "left" else row + fill)
        mask.append(gap + real if side == "left" else real + gap)
    return {"inputs": torch.tensor(inputs), "mask": torch.tensor(mask)}


def test_a_llama_classifies_at_the_last_real_token_under_either_padding_side(models):
    """With pad = eos, a text that ends in `</s>` must be read to its end."""
    torch.manual_seed(0)
    net = TextNet(models["llama"], n_outputs=3).eval()
    rows = [[0, 5, 9, 1], [0, 7], [0], [0, 4, 5, 6, 7, 8, 1]]
    with torch.no_grad():
        right, left = (net(**padded(rows, side, pad=1)) for side in ("right", "left"))
        alone = torch.cat([net(**padded([row], "right", pad=1)) for row in rows])
        cut = net(**padded([rows[0][:-1]], "right", pad=1))
    assert torch.allclose(right, alone, atol=1e-6)
    assert torch.allclose(left, alone, atol=1e-6)
    assert not torch.allclose(alone[0], cut[0], atol=1e-3), "the final </s> counts"


def test_without_padding_it_is_transformers_own_classifier(models):
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    net = TextNet(models["llama"], n_outputs=3).eval()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(models["llama"], num_labels=3)
    model.load_state_dict(net.model.state_dict())
    row = torch.tensor([[0, 5, 9, 6]])
    with torch.no_grad():
        expected = model.eval()(row, attention_mask=torch.ones_like(row)).logits
        assert torch.allclose(net(row, torch.ones_like(row).bool()), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "llama without bos", "roberta"])
def test_an_empty_transcript_is_valid_in_training_and_prediction(models, tmp_path, name):
    train = text_examples(["", "joy", "rage joy", " ", "awful", ""], [0, 1, 2, 0, 1, 2])
    chosen = settings(models[name], training={"epochs": 1, "batch_size": 2})
    system = build("text_classifier", chosen, context(tmp_path)).fit(train, None)
    assert system.facts_["empty_texts"] == 3
    scores = system.predict(text_examples(["", "joy"], None)).log_proba
    assert np.isfinite(scores).all()
    alone = system.predict(text_examples([""], None)).log_proba
    assert np.allclose(scores[:1], alone, atol=1e-5)


def test_predictions_do_not_depend_on_the_company(fitted, data):
    together = fitted.predict(data[1]).log_proba
    for i in (0, 7, 44):
        alone = fitted.predict(text_examples([data[1].texts[i]], None)).log_proba
        assert np.allclose(together[i], alone[0], atol=1e-5)


def test_test_labels_have_no_influence(fitted, data):
    wrong = replace(data[1], labels=(data[1].labels + 1) % 3)
    scores = fitted.predict(wrong).log_proba
    assert scores.tobytes() == fitted.predict(data[1].without_labels()).log_proba.tobytes()


def test_the_same_seed_gives_the_same_bits(models, data, tmp_path):
    chosen = settings(models["llama"], training={"epochs": 2})
    runs = [
        build("text_classifier", chosen, context(tmp_path / name, seed)).fit(data[0], None)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, again, other = (run.predict(data[1]).log_proba.tobytes() for run in runs)
    assert first == again != other


def test_lora_trains_adapters_and_the_score_layer_only(models, data, tmp_path):
    chosen = settings(models["llama"], adaptation="lora", lora=LORA, training={"epochs": 1})
    system = build("text_classifier", chosen, context(tmp_path)).fit(data[0], None)
    trained = {n for n, p in system.net_.named_parameters() if p.requires_grad}
    assert "model.score.weight" in trained
    assert all("lora_" in name or name == "model.score.weight" for name in trained)


def test_a_text_is_cut_at_the_models_positions_and_counted(models, tmp_path):
    long = " ".join(["joy"] * 200)
    train = text_examples([long, "rage", "awful", "the"], [0, 1, 2, 1])
    for name in ("llama", "roberta"):
        chosen = settings(models[name], training={"epochs": 1, "batch_size": 2})
        system = build("text_classifier", chosen, context(tmp_path / name)).fit(train, None)
        assert system.facts_["texts_at_max_tokens"] == 1
        assert np.isfinite(system.predict(train).log_proba).all()


def test_a_tokenizer_without_padding_token_pads_with_end_of_sequence(models):
    tokens = Tokens(models["llama"], max_tokens=8)
    assert tokens.pad_id == 1
    assert tokens(["", "joy"]) == [[0], [0, 4 + tiny_models.WORDS.index("joy")]]
    assert Tokens(models["llama without bos"], 8)([""]) == [[1]]
    assert Tokens(models["roberta"], 8).pad_id == 3


def test_in_four_bits_only_the_added_weights_train_and_sizes_are_those_of_the_model(
    models, tmp_path
):
    """Stored two to a byte, 70 billion weights would be reported as 35."""
    lora = {"adaptation": "lora", "lora": LORA}
    train = sentences(12, seed=1)
    facts, stored = {}, {}
    for kind in ("none", "nf4"):
        block = settings(models["llama"], quantisation=kind, training={"epochs": 1}, **lora)
        system = build("text_classifier", block, context(tmp_path / kind)).fit(train, None)
        facts[kind] = system.facts_
        system.save(tmp_path / kind / "saved")
        stored[kind] = (tmp_path / kind / "saved" / "trained.safetensors").stat().st_size
        layer = system.net_.model.model.base_model.model.layers[0]
        whole = layer.mlp.down_proj.weight
        assert whole.dtype == (torch.uint8 if kind == "nf4" else torch.float32)
    for name in ("total_parameters", "trainable_parameters"):
        assert facts["nf4"][name] == facts["none"][name]
    assert stored["nf4"] == stored["none"], "frozen weights and their constants are not stored"


def test_in_four_bits_training_goes_on_to_the_same_bits(models, data, tmp_path):
    def run(folder):
        lora = {"adaptation": "lora", "lora": LORA | {"dropout": 0.1}, "quantisation": "nf4"}
        block = settings(models["llama"], training={"epochs": 3}, **lora)
        system = build("text_classifier", block, context(folder)).fit(data[0], None)
        return system.predict(data[1].without_labels()).log_proba, system.facts_

    whole, _ = run(tmp_path / "whole")
    run(tmp_path / "cut")
    newest = max((tmp_path / "cut" / "checkpoints").glob("checkpoint-*"), key=step)
    shutil.rmtree(newest)
    again, facts = run(tmp_path / "cut")
    assert 0 < facts["resumed_at_step"] < facts["steps"]
    assert again.tobytes() == whole.tobytes()


def step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def test_four_bits_cannot_be_trained_themselves(models, tmp_path):
    with pytest.raises(ValidationError, match="set adaptation to 'lora'"):
        build("text_classifier", settings(models["llama"], quantisation="nf4"), context(tmp_path))


def test_llama_70b_in_four_bits_fits_on_one_gpu_of_80_gb():
    """Section 5: 68.7 billion weights, 32.8 million of them trained; counted without memory."""
    config = LlamaConfig(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, vocab_size=32000, num_labels=8,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForSequenceClassification(config)
        lora = Lora(rank=16, alpha=16, dropout=0.05, target_modules=["q_proj", "v_proj"])
        model.model = adapt(model.model, "lora", lora)
    trained, total = weights.parameter_counts(model)
    added = trained - 8 * 8192  # without the head
    assert added == 32_768_000
    assert total - added == 68_714_569_728
    linear = sum(p.numel() for n, p in model.named_parameters() if "_proj" in n and "lora" not in n)
    in_bytes = linear * (0.5 + 1 / 64 + 4 / (64 * 256)) + 4 * (total - linear)
    assert in_bytes < 45e9
