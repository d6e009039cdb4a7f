"""Pooling, heads, encoders: padding changes nothing, and the parts are those of the papers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
)

import tiny_models
from serflow.errors import UserError
from serflow.nets import weights
from serflow.nets.adaptation import Lora
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.heads import DenseHead
from serflow.nets.pooling import build_pooling
from serflow.nets.speech import SpeechNet
from serflow.systems.speech_inputs import Spans

torch.set_num_threads(1)
QKVO = ["linear_q", "linear_k", "linear_v", "linear_out"]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of tiny encoders by name; a blank and an umlaut in the path on purpose."""
    base = tmp_path_factory.mktemp("tiny modèles")
    folders = {"w2v-bert": tiny_models.w2v_bert(base / "w2v-bert")}
    for kind in ("wav2vec2", "hubert", "wavlm"):
        for norm in ("group", "layer"):
            name = f"{kind}-{norm}"
            folders[name] = tiny_models.conv_encoder(base / name, kind, norm)
    return folders


def noise(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0.01, 0.1, int(16_000 * s)).astype(np.float32) for s in seconds]


def batch_of(items: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return Spans.collate(None, items)


@pytest.mark.parametrize("name", ["attentive_statistics", "attentive", "mean"])
def test_pooling_ignores_padding(name):
    torch.manual_seed(0)
    pooling = build_pooling(name, size=6, bottleneck=4)
    frames, mask = torch.randn(3, 9, 6), torch.arange(9) < torch.tensor([[9], [5], [1]])
    together = pooling(frames + 100 * ~mask.unsqueeze(-1), mask)
    assert together.shape == (3, pooling.output_size)
    for i, n in enumerate((9, 5, 1)):
        alone = pooling(frames[i : i + 1, :n], mask[i : i + 1, :n])
        assert torch.allclose(together[i], alone[0], atol=1e-5)


def test_attentive_statistics_with_equal_attention_are_mean_and_standard_deviation():
    pooling = build_pooling("attentive_statistics", size=3, bottleneck=2)
    torch.nn.init.zeros_(pooling.score[2].weight)
    frames = torch.randn(2, 50, 3)
    pooled = pooling(frames, torch.ones(2, 50, dtype=torch.bool))
    assert torch.allclose(pooled[:, :3], frames.mean(1), atol=1e-5)
    assert torch.allclose(pooled[:, 3:], frames.std(1, correction=0), atol=1e-4)


def test_a_single_frame_has_a_finite_gradient():
    pooling = build_pooling("attentive_statistics", size=3, bottleneck=2)
    frames = torch.randn(1, 1, 3, requires_grad=True)
    pooling(frames, torch.ones(1, 1, dtype=torch.bool)).sum().backward()
    assert torch.isfinite(frames.grad).all()


NAMES = ["w2v-bert"] + [
    f"{k}-{n}" for k in ("wav2vec2", "hubert", "wavlm") for n in ("group", "layer")
]


@pytest.mark.parametrize("name", NAMES)
def test_an_utterance_alone_and_in_a_batch_give_the_same_frames(encoders, name):
    front_end = FrontEnd(str(encoders[name]))
    encoder = SpeechEncoder(str(encoders[name])).eval()
    # Odd numbers of frames, and one utterance of 5 ms.
    items = [front_end(wave) for wave in noise(1.0, 0.333, 0.715, 0.005)]
    with torch.no_grad():
        frames, mask = encoder(**batch_of(items))
        for i, item in enumerate(items):
            alone, real = encoder(**batch_of([item]))
            assert real.all()
            assert mask[i].sum() == alone.shape[1] > 0
            assert torch.allclose(frames[i, mask[i]], alone[0], atol=1e-5)


def test_the_masked_group_norm_is_the_models_own_on_a_single_utterance(encoders):
    from transformers import AutoModel

    item = FrontEnd(str(encoders["hubert-group"]))(noise(0.5)[0])
    encoder = SpeechEncoder(str(encoders["hubert-group"])).eval()
    original = AutoModel.from_pretrained(encoders["hubert-group"]).eval()
    with torch.no_grad():
        ours, _ = encoder(**batch_of([item]))
        theirs = original(item.unsqueeze(0)).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_our_fast_filter_bank_is_the_extractors_own():
    original = SeamlessM4TFeatureExtractor()
    fast = FrontEnd.__new__(FrontEnd)
    fast._extractor = original
    wave = noise(0.777)[0]
    expected = original._extract_fbank_features(wave)
    assert np.abs(fast._filter_bank(wave) - expected).max() < 1e-4


def test_lora_trains_adapters_only_and_frozen_nothing(encoders):
    lora = Lora(rank=2, alpha=2, dropout=0.0, target_modules=QKVO)
    adapted = SpeechEncoder(str(encoders["w2v-bert"]), adaptation="lora", lora=lora)
    trained = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 4 * 2  # A and B, four projections, two layers
    assert all("lora_" in name for name in trained)
    frozen = SpeechEncoder(str(encoders["w2v-bert"]), adaptation="frozen").train()
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.backbone.training, "dropout must be off in a frozen encoder"


def test_augmentation_hidden_in_a_checkpoint_is_off(encoders):
    config = SpeechEncoder(str(encoders["hubert-group"])).backbone.config
    assert config.layerdrop == 0.0
    assert config.apply_spec_augment is False


def test_taltechs_audio_model_has_eight_million_trainable_parameters(monkeypatch):
    """Section 3.1: rank 32 on about 600 M parameters leaves "around 8 million" to train."""
    from transformers import Wav2Vec2BertModel

    from serflow.nets import encoders as module

    with torch.device("meta"):
        monkeypatch.setattr(module, "_load", lambda *_: Wav2Vec2BertModel(Wav2Vec2BertConfig()))
        lora = Lora(rank=32, alpha=32, dropout=0.05, target_modules=QKVO)
        encoder = SpeechEncoder("facebook/w2v-bert-2.0", adaptation="lora", lora=lora)
        pooling = build_pooling("attentive_statistics", encoder.output_size, 128)
        net = SpeechNet(encoder, pooling, DenseHead(pooling.output_size, 768, 10))
    trainable, total = weights.parameter_counts(net)
    assert trainable == 8_005_643
    assert total - trainable == 580_493_120


def test_llama_7b_with_taltechs_lora_has_its_parameters():
    from serflow.nets.adaptation import adapt

    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_labels=8,
        pad_token_id=2,
    )
    with torch.device("meta"):
        model = LlamaForSequenceClassification(config)
        total = weights.parameter_counts(model)[1]
        model.model = adapt(model.model, "lora", Lora(256, 256, 0.1, ["q_proj", "v_proj"]))
    assert total == 6_607_376_384
    assert weights.parameter_counts(model)[0] == 134_250_496


def test_trained_tensors_are_adapters_head_and_batch_norm_state(encoders, tmp_path):
    torch.manual_seed(0)
    lora = Lora(rank=2, alpha=2, dropout=0.0, target_modules=["linear_q"])

    def build() -> SpeechNet:
        encoder = SpeechEncoder(str(encoders["w2v-bert"]), adaptation="lora", lora=lora)
        pooling = build_pooling("attentive", encoder.output_size, 4)
        return SpeechNet(encoder, pooling, DenseHead(pooling.output_size, 8, 3))

    net = build()
    net(torch.randn(4, 10, 40), torch.ones(4, 10, dtype=torch.bool))  # moves BatchNorm's statistics
    weights.save_trained(net, tmp_path / "t.safetensors")
    names = weights.trained_tensors(net)
    assert "head.norm.running_mean" in names
    assert not any("base_layer" in name or "ffn" in name for name in names)
    other = build()
    weights.load_trained(other, tmp_path / "t.safetensors")
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_folder_without_a_model_is_named_with_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(UserError, match=r"speech encoder .*(?s:.*)It holds notes\.txt"):
        SpeechEncoder(str(tmp_path))


def test_an_absent_folder_is_not_taken_for_a_hub_id():
    with pytest.raises(UserError, match="there is no such folder"):
        SpeechEncoder("/nowhere/at/all")


def test_a_hub_id_that_cannot_be_fetched_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"(?s)'no/such-model'.*'models:'.*HF_TOKEN"):
        SpeechEncoder("no/such-model")


def test_weights_that_leave_layers_random_are_refused(encoders, tmp_path):
    folder = tmp_path / "deeper"
    folder.mkdir()
    for file in encoders["w2v-bert"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"tensors of the encoder are missing"):
        SpeechEncoder(str(folder))


def test_a_lora_target_that_fits_no_layer_is_an_error_that_lists_the_layers(encoders):
    lora = Lora(rank=2, alpha=2, dropout=0.0, target_modules=["q_proj"])
    with pytest.raises(UserError, match=r"'q_proj'.*linear_q"):
        SpeechEncoder(str(encoders["w2v-bert"]), adaptation="lora", lora=lora)
