"""The HuBERT classifier of transformers, put together from our parts: the same numbers, the same size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertForSequenceClassification, HubertModel

import tiny_models
from serflow.nets import encoders as encoders_module
from serflow.nets import weights
from serflow.nets.adaptation import Lora
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.heads import build_head
from serflow.nets.layers import WeightedSum
from serflow.nets.pooling import build_pooling
from serflow.nets.speech import SpeechNet, load_head
from serflow.systems.interface import build
from serflow.systems.speech_inputs import Spans
from toy_examples import context, tones

torch.set_num_threads(1)
HEAD = ["layer_weights", "projector.bias", "projector.weight"]
QKV = Lora(rank=8, alpha=8, dropout=0.0, target_modules=["k_proj", "q_proj", "v_proj"])
# config.json of superb/hubert-large-superb-er, what differs from HubertConfig's defaults.
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
    "use_weighted_layer_sum": True,
    "classifier_proj_size": 256,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_models.hubert_classifier(tmp_path_factory.mktemp("m") / "hubert"))


def net_of(source: str, hidden: int = 8, n_classes: int = 4, **options) -> SpeechNet:
    encoder = SpeechEncoder(source, **options)
    pooling = build_pooling("mean", encoder.output_size, 1)
    head = build_head("projector", pooling.output_size, hidden=hidden, n_classes=n_classes)
    return SpeechNet(encoder, pooling, head, WeightedSum(encoder.depth))


def padded(model: str) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    front_end = FrontEnd(model)
    waves = [rng.normal(0, 0.1, n).astype(np.float32) for n in (16_000, 9_001, 3_200)]
    return Spans.collate(None, [front_end(wave) for wave in waves])


@pytest.mark.parametrize("adaptation", ["full", "lora", "frozen"])
def test_a_padded_batch_gives_what_transformers_gives(model, adaptation):
    """Projected after pooling rather than before, and mixed in another order: to rounding, equal."""
    theirs = HubertForSequenceClassification.from_pretrained(model).eval()
    seen = {}
    theirs.classifier.register_forward_pre_hook(lambda _, args: seen.update(projected=args[0]))
    lora = QKV if adaptation == "lora" else None  # B starts at 0: adapters change nothing yet
    ours = net_of(model, adaptation=adaptation, lora=lora).eval()
    assert load_head(ours, model) == HEAD
    with torch.no_grad():
        ours.head.output.categories.load_state_dict(theirs.classifier.state_dict())
        batch = padded(model)
        logits = theirs(batch["inputs"], attention_mask=batch["mask"].long()).logits
        projected = ours.head.embed(ours.pool(**batch))
        torch.testing.assert_close(projected, seen["projected"], rtol=0, atol=1e-5)
        torch.testing.assert_close(ours(**batch), logits, rtol=0, atol=1e-5)
        for i, n in enumerate(batch["mask"].sum(dim=1)):
            alone = {name: value[i : i + 1, :n] for name, value in batch.items()}
            torch.testing.assert_close(ours(**alone)[0], logits[i], rtol=0, atol=1e-5)


def test_the_size_is_that_of_transformers_and_not_that_of_the_papers_table(monkeypatch):
    """Table 1 says 437,865,352, which no HuBERT large has; LoRA and head are as it describes."""
    with torch.device("meta"):
        config = HubertConfig(**LARGE, num_labels=8)
        theirs = weights.parameter_counts(HubertForSequenceClassification(config))[1]
        monkeypatch.setattr(encoders_module, "_load", lambda *_: HubertModel(config))
        nets = {
            adaptation: net_of("superb", 256, 8, adaptation=adaptation, lora=lora)
            for adaptation, lora in (("full", None), ("lora", QKV), ("frozen", None))
        }
    head = 25 + 262_400 + 2_056
    assert weights.parameter_counts(nets["full"]) == (theirs, theirs) == (315_703_201,) * 2
    assert weights.parameter_counts(nets["lora"]) == (1_179_648 + head, 315_703_201 + 1_179_648)
    assert weights.parameter_counts(nets["frozen"]) == (head, 315_703_201)


def test_layer_weights_learn_beside_a_frozen_encoder(model):
    net = net_of(model, adaptation="frozen").train()
    net(**padded(model)).sum().backward()
    assert net.layers.layer_weights.grad.abs().min() > 0
    assert all(p.grad is None for p in net.encoder.parameters())


def test_equal_weights_give_the_mean_of_the_layers():
    states = [torch.randn(2, 5, 3) for _ in range(4)]
    torch.testing.assert_close(WeightedSum(4)(states), torch.stack(states).mean(dim=0))


def test_a_checkpoint_without_a_head_or_with_another_one_gives_what_fits(model, tmp_path):
    bare = tiny_models.conv_encoder(tmp_path / "bare", "hubert", "layer")
    assert load_head(net_of(str(bare)), str(bare)) == []
    net = net_of(model, hidden=6)
    before = net.head.projector.weight.clone()
    assert load_head(net, model) == ["layer_weights"]
    assert torch.equal(net.head.projector.weight, before)


@pytest.mark.parametrize("layout", ["pickled", "sharded"])
def test_heads_come_out_of_every_layout_of_weights(model, tmp_path, layout):
    """The hub's own folder of this checkpoint has a pytorch_model.bin."""
    state = load_file(f"{model}/model.safetensors")
    if layout == "pickled":
        torch.save(state, tmp_path / "pytorch_model.bin")
    else:
        parts = {name: f"part-{len(name) % 2}.safetensors" for name in state}
        for part in set(parts.values()):
            save_file({n: t for n, t in state.items() if parts[n] == part}, tmp_path / part)
        index = json.dumps({"weight_map": parts})
        (tmp_path / "model.safetensors.index.json").write_text(index)
    net = net_of(model)
    assert load_head(net, str(tmp_path)) == HEAD
    assert torch.equal(net.head.projector.weight, state["projector.weight"])


@pytest.mark.parametrize("kind", ["w2v-bert", "wavlm"])
def test_other_encoders_mix_their_layers_too(tmp_path, kind):
    if kind == "w2v-bert":
        folder = tiny_models.w2v_bert(tmp_path / "m")
    else:
        folder = tiny_models.conv_encoder(tmp_path / "m", kind, "group")
    net = net_of(str(folder)).eval()
    item = FrontEnd(str(folder))(np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32))
    batch = Spans.collate(None, [item])
    with torch.no_grad():
        states, _ = net.encoder.hidden_states(**batch)
        assert len(states) == net.encoder.depth == 3
        assert net(**batch).shape == (1, 4)


@pytest.mark.parametrize("adaptation", ["full", "lora", "frozen"])
def test_the_family_trains_it_by_settings_alone(model, tmp_path, adaptation):
    train, test = tones(tmp_path / "train", 60, seed=1), tones(tmp_path / "test", 30, seed=2)
    settings = {
        "model": model,
        "adaptation": adaptation,
        "head": {"layers": "weighted_sum", "pooling": "mean", "type": "projector", "hidden": 8},
        "training": {"epochs": 6, "batch_size": 8, "learning_rate": 1e-2, "optimizer": "adam"},
    }
    if adaptation == "lora":
        settings["lora"] = {"rank": 4, "alpha": 4, "target_modules": ["q_proj", "v_proj"]}
    system = build("speech_classifier", settings, context(tmp_path)).fit(train, None)
    assert system.facts_["head_from_checkpoint"] == ", ".join(HEAD)
    losses = system.facts_["loss_history"]
    assert losses[-1] < losses[0]
    assert np.isfinite(system.predict(test.without_labels()).log_proba).all()
