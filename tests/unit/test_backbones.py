"""Every backbone with every adaptation: one study line, one code path, padding without effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModel, Wav2Vec2Config, Wav2Vec2Model, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

import tiny_models
from serflow.config.families.speech_classifier import SpeechClassifierConfig
from serflow.errors import UserError
from serflow.nets import convolution, weights
from serflow.nets import encoders as module
from serflow.nets.adaptation import Adapters, Lora, encoder_layers
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.heads import DenseHead
from serflow.nets.pooling import build_pooling
from serflow.nets.speech import SpeechNet
from serflow.nets.whisper import log_mel
from serflow.systems.interface import build
from serflow.systems.speech_inputs import Spans
from toy_examples import context, tones

torch.set_num_threads(1)

CONV = ["q_proj", "v_proj"]
CONFORMER = ["linear_q", "linear_v"]
TARGETS = {
    "wav2vec2": CONV,
    "xls-r": CONV,
    "hubert": CONV,
    "wavlm": CONV,
    "emotion2vec": CONV,
    "whisper": CONV,
    "w2v-bert": CONFORMER,
    "sonar": CONFORMER,
}
ADAPTATIONS = ["full", "lora", "adapters", "frozen"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("tiny")
    folders = {
        "wav2vec2": tiny_models.conv_encoder(base / "wav2vec2", "wav2vec2", "group"),
        "xls-r": tiny_models.xls_r(base / "xls-r"),
        "hubert": tiny_models.conv_encoder(base / "hubert", "hubert", "layer"),
        "wavlm": tiny_models.conv_encoder(base / "wavlm", "wavlm", "layer"),
        "emotion2vec": tiny_models.emotion2vec(base / "emotion2vec"),
        "whisper": tiny_models.whisper(base / "whisper"),
        "w2v-bert": tiny_models.w2v_bert(base / "w2v-bert"),
        "sonar": tiny_models.sonar(base / "sonar"),
    }
    return {name: str(folder) for name, folder in folders.items()}


def encoder_of(models, name, adaptation="full", **more) -> SpeechEncoder:
    torch.manual_seed(0)
    if adaptation == "lora":
        more["lora"] = Lora(2, 4, 0.0, TARGETS[name])
    if adaptation == "adapters":
        more["adapters"] = Adapters(4)
    return SpeechEncoder(models[name], adaptation=adaptation, **more)


def net_of(models, name, adaptation="full", **more) -> SpeechNet:
    encoder = encoder_of(models, name, adaptation, **more)
    pooling = build_pooling("attentive_statistics", encoder.output_size, 4)
    return SpeechNet(encoder, pooling, DenseHead(pooling.output_size, 8, 3))


def noise(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0.01, 0.1, int(16_000 * s)).astype(np.float32) for s in seconds]


def features(models, name, *seconds: float) -> list[torch.Tensor]:
    return [FrontEnd(models[name])(wave) for wave in noise(*seconds)]


def batch_of(items: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return Spans.collate(None, items)


def step(net: SpeechNet, batch: dict[str, torch.Tensor], rate: float = 3e-3) -> float:
    """One optimiser step on labels 0, 1, ...; returns the loss before it."""
    net.train()
    chosen = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=rate)
    torch.manual_seed(0)
    logits = net(**batch)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 3)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in chosen if p.grad is not None)
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
@pytest.mark.parametrize("name", TARGETS)
def test_each_backbone_trains_with_each_adaptation(models, name, adaptation):
    """And once trained, an utterance alone, padded and in other company scores the same."""
    net = net_of(models, name, adaptation)
    # Odd and even numbers of frames, and one utterance of 5 ms.
    items = features(models, name, 1.0, 0.333, 0.715, 0.005)
    before = {n: t.clone() for n, t in net.encoder.state_dict().items()}
    losses = [step(net, batch_of(items)) for _ in range(3)]
    assert losses[-1] < losses[0]

    moved = {n for n, t in net.encoder.state_dict().items() if not torch.equal(t, before[n])}
    expected = {n for n, p in net.encoder.named_parameters() if p.requires_grad}
    assert moved <= expected
    # All but tensors that fine-tuning does not use (masked_spec_embed) and Key biases.
    assert len(moved) >= 0.7 * len(expected)
    marks = {"lora": "lora_", "adapters": ".bottleneck.", "full": "", "frozen": "nothing"}
    assert all(marks[adaptation] in parameter for parameter in expected)

    net.eval()
    with torch.no_grad():
        frames, mask = net.encoder(**batch_of(items))
        together = net(**batch_of(items))
        pair = net(**batch_of(items[2:]))
        for i, item in enumerate(items):
            alone, real = net.encoder(**batch_of([item]))
            assert real.all()
            assert mask[i].sum() == alone.shape[1] > 0
            assert torch.allclose(frames[i, mask[i]], alone[0], rtol=1e-5, atol=1e-5)
            assert torch.allclose(together[i], net(**batch_of([item]))[0], rtol=0, atol=1e-5)
    assert torch.allclose(together[2:], pair, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_adapters_start_as_the_pretrained_network(models, name):
    items = batch_of(features(models, name, 0.5, 0.3))
    plain = encoder_of(models, name).eval()
    adapted = encoder_of(models, name, "adapters").eval()
    assert len(encoder_layers(adapted.backbone)) == 2
    with torch.no_grad():
        assert torch.equal(plain(**items)[0], adapted(**items)[0])
        for layer in encoder_layers(adapted.backbone):
            torch.nn.init.normal_(layer.bottleneck.linear_2.bias)
        assert not torch.allclose(plain(**items)[0], adapted(**items)[0], atol=1e-2)


def test_wavlms_attention_is_transformers_own(models):
    """Its projections are called as layers, which transformers does not and LoRA needs."""
    ours = encoder_of(models, "wavlm").eval()
    theirs = AutoModel.from_pretrained(models["wavlm"]).eval()
    items = batch_of(features(models, "wavlm", 0.5, 0.3))
    with torch.no_grad():
        frames, mask = ours(**items)
        expected = theirs(items["inputs"], attention_mask=items["mask"].long()).last_hidden_state
    assert torch.allclose(frames[mask], expected[mask], atol=1e-5)


def test_adapters_are_those_of_transformers_for_xls_r(models):
    """`adapter_attn_dim` of the layer-norm wav2vec2: same places, same computation."""
    ours = encoder_of(models, "xls-r", "adapters").double().eval()
    theirs = AutoModel.from_pretrained(models["xls-r"], adapter_attn_dim=4).double().eval()
    with torch.no_grad():
        for mine, layer in zip(encoder_layers(ours.backbone), theirs.encoder.layers, strict=True):
            torch.nn.init.normal_(mine.bottleneck.linear_2.weight)
            layer.adapter_layer.load_state_dict(mine.bottleneck.state_dict())
        wave = FrontEnd(models["xls-r"])(noise(0.5)[0]).unsqueeze(0).double()
        frames = ours(wave, torch.ones_like(wave, dtype=torch.bool))[0]
        assert torch.allclose(frames, theirs(wave).last_hidden_state, atol=1e-6)


def test_recorded_hidden_states_are_the_adapted_ones(models):
    """A weighted sum of layers must see what the adapters did, in training mode as well."""
    backbone = encoder_of(models, "hubert", "adapters").backbone.eval()
    with torch.no_grad():
        for layer in encoder_layers(backbone):
            layer.bottleneck.linear_2.bias.fill_(100.0)
        found = backbone(torch.randn(1, 8000), output_hidden_states=True).hidden_states
    assert found[1].mean() > 50


@pytest.mark.parametrize("name", TARGETS)
def test_every_backbone_shows_its_depths(models, name):
    """What a weighted sum mixes, and what a frozen encoder leaves on disk."""
    encoder = encoder_of(models, name, "frozen").eval()
    batch = batch_of(features(models, name, 0.5, 0.3))
    states, last, mask = encoder.all_states(batch["inputs"], batch["mask"])
    assert len(states) == encoder.depth
    assert {state.shape for state in states} == {last.shape}
    torch.testing.assert_close(last, encoder(**batch)[0])
    assert mask.sum(dim=1)[0] > mask.sum(dim=1)[1] > 0


def test_adapters_of_xls_r_300m_have_six_million_parameters(monkeypatch):
    config = Wav2Vec2Config(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    with torch.device("meta"):
        monkeypatch.setattr(module, "_load", lambda *_: Wav2Vec2Model(config))
        encoder = SpeechEncoder("xls-r", adaptation="adapters", adapters=Adapters(128))
    trainable, total = weights.parameter_counts(encoder)
    assert trainable == 6_368_256
    assert total - trainable == 315_438_720


@pytest.mark.parametrize("name", TARGETS)
def test_gradient_checkpointing_changes_no_gradient_of_adapters(models, name):
    items = batch_of(features(models, name, 0.5, 0.3, 0.4))
    gradients = []
    for checkpointing in (False, True):
        net = net_of(models, name, "adapters", gradient_checkpointing=checkpointing)
        for layer in encoder_layers(net.encoder.backbone):
            torch.nn.init.normal_(layer.bottleneck.linear_2.weight, std=0.1)
        step(net, items, rate=0.0)
        gradients.append({n: p.grad for n, p in net.named_parameters() if p.requires_grad})
    plain, recomputed = gradients
    assert any(".bottleneck." in n for n in plain)
    for parameter, gradient in plain.items():
        assert gradient is not None, parameter
        assert torch.allclose(gradient, recomputed[parameter], atol=1e-5), parameter


def test_saved_adapters_come_back(models, tmp_path):
    net = net_of(models, "wavlm", "adapters")
    items = batch_of(features(models, "wavlm", 0.5, 0.3))
    step(net, items)
    weights.save_trained(net, tmp_path / "t.safetensors")
    names = weights.trained_tensors(net)
    assert all(".bottleneck." in n or n.startswith(("pooling.", "head.")) for n in names)
    other = net_of(models, "wavlm", "adapters")
    weights.load_trained(other, tmp_path / "t.safetensors")
    with torch.no_grad():
        assert torch.equal(net.eval()(**items), other.eval()(**items))


@pytest.mark.parametrize(
    ("adaptation", "blocks", "message"),
    [
        ("adapters", {}, "'adapters' settings are needed exactly when adaptation is 'adapters'"),
        ("full", {"adapters": {"size": 8}}, "'adapters' settings are needed exactly"),
        ("adapters", {"adapters": {"size": 8}, "lora": {"target_modules": ["q"]}}, "'lora'"),
        ("lora", {}, "'lora' settings are needed exactly when adaptation is 'lora'"),
        ("adapters", {"adapters": {"size": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_go_with_their_adaptation(adaptation, blocks, message):
    with pytest.raises(ValidationError, match=message):
        SpeechClassifierConfig(
            family="speech_classifier", model="m", adaptation=adaptation, **blocks
        )


@pytest.mark.parametrize("name", ["wav2vec2", "xls-r", "hubert", "wavlm", "emotion2vec", "whisper"])
def test_a_frozen_front_end_stays_and_the_rest_trains(models, name):
    net = net_of(models, name, freeze_front_end=True)
    front = ("feature_extractor.", "conv1.", "conv2.")
    before = {n: p.clone() for n, p in net.encoder.backbone.named_parameters()}
    step(net, batch_of(features(models, name, 0.5, 0.3)))
    after = dict(net.encoder.backbone.named_parameters())
    fixed = {n for n in before if n.startswith(front)}
    assert fixed
    assert all(torch.equal(before[n], after[n]) for n in fixed)
    assert sum(not torch.equal(before[n], after[n]) for n in before) > 0.7 * len(before) - len(
        fixed
    )


def test_a_model_without_a_front_end_says_so(models):
    with pytest.raises(UserError, match=r"freeze_front_end: .*Wav2Vec2BertModel.*leave"):
        SpeechEncoder(models["w2v-bert"], freeze_front_end=True)


@pytest.mark.parametrize("name", TARGETS)
def test_both_kinds_of_attention_give_the_same_frames(models, name):
    items = batch_of(features(models, name, 0.5, 0.3))
    fused = encoder_of(models, name, attention="sdpa").eval()
    plain = encoder_of(models, name, attention="eager").eval()
    assert plain.backbone.config._attn_implementation == "eager"
    with torch.no_grad():
        frames, mask = fused(**items)
        assert torch.allclose(frames[mask], plain(**items)[0][mask], atol=1e-5)


def test_whisper_keeps_its_encoder_and_no_decoder(models):
    backbone = encoder_of(models, "whisper").backbone
    whole = AutoModel.from_pretrained(models["whisper"])
    expected = whole.encoder.state_dict()
    found = backbone.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in found)


@pytest.mark.parametrize("bins", [80, 128])
def test_the_spectrogram_is_the_start_of_whispers_window(bins):
    extractor = WhisperFeatureExtractor(feature_size=bins)
    for wave in noise(1.0, 0.3337, 0.1):
        ours = log_mel(extractor, wave)
        window = extractor(wave, sampling_rate=16_000, return_tensors="np").input_features[0].T
        assert ours.shape == (-(-(len(wave) + 200) // 160), bins)
        assert np.abs(ours - window[: len(ours)]).max() < 1e-5
        assert (window[len(ours) :] == window.min()).all(), "the rest must be silence"


def test_the_spectrogram_is_precise_in_mixed_precision():
    wave = noise(0.3)[0]
    extractor = WhisperFeatureExtractor()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = log_mel(extractor, wave)
    assert np.array_equal(mixed, log_mel(extractor, wave))


@pytest.mark.parametrize("name", TARGETS)
def test_mixed_precision_trains(models, name):
    net = net_of(models, name, "adapters")
    items = batch_of(features(models, name, 0.5, 0.3, 0.4))
    with torch.autocast("cpu", torch.bfloat16):
        losses = [step(net, items) for _ in range(3)]
    assert losses[-1] < losses[0]


def test_the_full_window_is_transformers_own_whisper(models):
    items = features(models, "whisper", 1.0, 0.333, 0.005)
    ours = encoder_of(models, "whisper", full_window=True).eval()
    theirs = AutoModel.from_pretrained(models["whisper"]).encoder.eval()
    assert type(theirs) is WhisperEncoder
    extractor = WhisperFeatureExtractor.from_pretrained(models["whisper"])
    with torch.no_grad():
        frames, mask = ours(**batch_of(items))
        for i, wave in enumerate(noise(1.0, 0.333, 0.005)):
            if len(wave) < 1600:
                wave = np.pad(wave, (0, 1600 - len(wave)))
            window = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
            expected = theirs(window).last_hidden_state[0, : int(mask[i].sum())]
            assert torch.allclose(frames[i, mask[i]], expected, atol=1e-5)


def test_other_models_have_no_window(models):
    with pytest.raises(UserError, match=r"full_window: .*only Whisper"):
        SpeechEncoder(models["sonar"], full_window=True)


def test_an_utterance_longer_than_whispers_window_is_told_what_to_set(models):
    encoder = encoder_of(models, "whisper")
    with pytest.raises(UserError, match=r"positions for 2 s, .*2\.52 s: set max_seconds to 2"):
        encoder(**batch_of(features(models, "whisper", 2.5)))


@pytest.mark.parametrize("name", TARGETS)
def test_a_compiled_encoder_is_the_same_under_the_same_names(models, name, compiled_graphs):
    """Traced as for any backend; generating code would take minutes."""
    plain, compiled = encoder_of(models, name), encoder_of(models, name, compile=True)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert list(weights.trained_tensors(compiled)) == list(weights.trained_tensors(plain))
    for lengths in ((0.5, 0.3, 0.4), (0.7, 0.6)):
        batch = batch_of(features(models, name, *lengths))
        for net in (plain, compiled):
            net.eval().zero_grad()
            states, _ = net.hidden_states(**batch)
            sum(state.square().mean() for state in states).backward()
        for ours, theirs in zip(
            compiled.hidden_states(**batch)[0], plain.hidden_states(**batch)[0], strict=True
        ):
            assert torch.allclose(ours, theirs, atol=1e-5)
        for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
            if theirs.grad is not None:
                assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
    assert compiled_graphs


@pytest.mark.parametrize("name", TARGETS)
def test_no_convolution_is_compiled(models, name, compiled_graphs):
    """torch's compiler made another version of it for every length, and gave up after eight."""
    net = encoder_of(models, name, compile=True)
    net(**batch_of(features(models, name, 0.5, 0.3)))
    called = {str(node.target) for graph in compiled_graphs for node in graph.graph.nodes}
    assert called
    assert not any("conv1d" in target for target in called)


@pytest.mark.parametrize("name", ["xls-r", "emotion2vec"])
def test_the_layers_of_a_front_end_share_one_graph(models, name, compiled_graphs):
    """For waves of any length. It is of frames as they lie in memory: gradients were copied else."""
    front = encoder_of(models, name, compile=True).train().backbone.feature_extractor
    for samples in (8000, 9001, 12345):
        front(torch.randn(2, samples)).sum().backward()
    (graph,) = compiled_graphs
    (frames,) = [node for node in graph.graph.nodes if node.name == "l_frames_"]
    assert len(front.conv_layers) > 1
    assert frames.meta["example_value"].shape[2] == front.conv_layers[0].conv.out_channels


def test_nobody_computes_the_gradient_of_a_waveform(models, monkeypatch):
    """transformers asks for it in training, for a way of gradient checkpointing that is not used here."""
    net = encoder_of(models, "hubert").train()
    channels, plain = [], convolution._gradient_of_frames

    def seen(gradient, taps, *rest):
        channels.append(taps.shape[1])
        return plain(gradient, taps, *rest)

    monkeypatch.setattr(convolution, "_gradient_of_frames", seen)
    net(**batch_of(features(models, "hubert", 0.5, 0.3)))[0].sum().backward()
    assert channels and 1 not in channels


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_layers_of_one_kind_are_compiled_once(tmp_path, compiled_graphs, adaptation):
    """The attention maps' hooks broke each layer in three, and every layer took its own time."""
    counts = []
    for layers in (2, 6):
        torch.compiler.reset()
        compiled_graphs.clear()
        model = {"w2v-bert": str(tiny_models.w2v_bert(tmp_path / str(layers), layers=layers))}
        net = encoder_of(model, "w2v-bert", adaptation, compile=True)
        for _ in range(2):
            net.hidden_states(**batch_of(features(model, "w2v-bert", 0.5, 0.3)))
        counts.append(len(compiled_graphs))
    assert counts[0] == counts[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    base = tmp_path_factory.mktemp("tones")
    return tones(base / "train", 24, seed=1), tones(base / "test", 6, seed=2).without_labels()


@pytest.mark.parametrize("name", TARGETS)
def test_another_backbone_is_another_line_of_the_study(models, data, tmp_path, name):
    block = {
        "model": models[name],
        "adaptation": "adapters",
        "adapters": {"size": 4},
        "head": {"bottleneck": 8, "hidden": 16},
        "training": {"epochs": 6, "batch_size": 8, "learning_rate": 1e-2},
    }
    system = build("speech_classifier", block, context(tmp_path)).fit(data[0], None)
    first, last = np.array(system.facts_["loss_history"])[[0, -1]]
    assert last < 0.95 * first  # in two epochs of three batches chance may win
    scores = system.predict(data[1]).log_proba
    ids = data[1].utterance_ids
    alone = [
        system.predict(
            replace(data[1], utterance_ids=[ids[i]], speakers=data[1].speakers[i : i + 1])
        ).log_proba[0]
        for i in range(len(ids))
    ]
    assert np.allclose(scores, alone, rtol=0, atol=1e-5)
