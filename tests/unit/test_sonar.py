"""SONAR's speech encoder: converted from the released layout, it computes what the original does."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, silu

from serflow.errors import UserError
from serflow.nets import encoders as encoders_module
from serflow.nets import weights
from serflow.nets.adaptation import Lora
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.heads import DenseHead
from serflow.nets.pooling import build_pooling
from serflow.nets.sonar import SonarSpeechConfig, SonarSpeechEncoder
from serflow.nets.sonar_checkpoint import convert
from serflow.nets.speech import SpeechNet
from serflow.systems.interface import build
from serflow.systems.speech_inputs import Spans
from toy_examples import accuracy, context, tones

torch.set_num_threads(1)
W2V = "encoder.w2v_model."
LAYERS, HIDDEN, INNER, HEADS, KERNEL, BINS = 2, 16, 24, 2, 7, 20
QKVO = ["linear_q", "linear_k", "linear_v", "linear_out"]
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": QKVO}


def released(seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the names that fairseq gave those of `spenc.eng.pt`."""
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}

    def add(name: str, *shape: int, around: float = 0.0, spread: float = 0.3) -> None:
        tensors[name] = around + spread * torch.randn(shape, generator=random)

    def norm(name: str, size: int) -> None:
        add(f"{name}.weight", size, around=1)
        add(f"{name}.bias", size)

    def dense(name: str, out: int, size: int, bias: bool = True) -> None:
        add(f"{name}.weight", out, size)
        if bias:
            add(f"{name}.bias", out)

    add(W2V + "mask_emb", HIDDEN)
    norm(W2V + "layer_norm", 2 * BINS)
    dense(W2V + "post_extract_proj", HIDDEN, 2 * BINS)
    for part, shape in (("bias", (HIDDEN,)), ("weight_g", (1, 1, 8)), ("weight_v", (HIDDEN, 4, 8))):
        add(f"{W2V}encoder.pos_conv.0.{part}", *shape)
    norm(W2V + "encoder.layer_norm", HIDDEN)
    for i in range(LAYERS):
        block = f"{W2V}encoder.layers.{i}."
        for ffn in ("ffn1", "ffn2"):
            norm(f"{block}{ffn}.layer_norm", HIDDEN)
            dense(f"{block}{ffn}.w_1", INNER, HIDDEN)
            dense(f"{block}{ffn}.w_2", HIDDEN, INNER)
        norm(block + "self_attn_layer_norm", HIDDEN)
        for name in QKVO:
            dense(f"{block}self_attn.{name}", HIDDEN, HIDDEN)
        dense(block + "self_attn.linear_pos", HIDDEN, HIDDEN, bias=False)
        add(block + "self_attn.pos_bias_u", HEADS, HIDDEN // HEADS)
        add(block + "self_attn.pos_bias_v", HEADS, HIDDEN // HEADS)
        conv = block + "conv_module."
        norm(conv + "layer_norm", HIDDEN)
        add(conv + "pointwise_conv1.weight", 2 * HIDDEN, HIDDEN, 1)
        add(conv + "depthwise_conv.weight", HIDDEN, 1, KERNEL)
        norm(conv + "batch_norm", HIDDEN)
        add(conv + "batch_norm.running_mean", HIDDEN)
        tensors[conv + "batch_norm.running_var"] = torch.rand(HIDDEN, generator=random) + 0.5
        tensors[conv + "batch_norm.num_batches_tracked"] = torch.tensor(100)
        add(conv + "pointwise_conv2.weight", HIDDEN, HIDDEN, 1)
        norm(block + "final_layer_norm", HIDDEN)
    add("decoder.embed_tokens.weight", HIDDEN, HIDDEN)
    dense("decoder.layers.0.fc1", INNER, HIDDEN)
    add("decoder.embed_out", HIDDEN, HIDDEN)
    return tensors


@dataclass
class Reference:
    """The original's forward pass on one utterance, written from the papers and fairseq2's source.

    In float64, and by other means than transformers: distances are looked up one by one instead of
    by the shift trick, and the convolution is a sum over its taps.
    """

    tensors: dict[str, Tensor]

    def __call__(self, features: Tensor) -> Tensor:
        x = self.norm("layer_norm", features.double())
        x = self.dense("post_extract_proj", x)
        for i in range(LAYERS):
            block = f"encoder.layers.{i}."
            x = x + 0.5 * self.feed_forward(block + "ffn1.", x)
            x = x + self.attention(
                block + "self_attn.", self.norm(block + "self_attn_layer_norm", x)
            )
            x = x + self.convolution(block + "conv_module.", x)
            x = x + 0.5 * self.feed_forward(block + "ffn2.", x)
            x = self.norm(block + "final_layer_norm", x)
        return self.norm("encoder.layer_norm", x)

    def get(self, name: str) -> Tensor:
        return self.tensors[W2V + name].double()

    def dense(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.get(name + ".weight"), self.get(name + ".bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.get(name + ".weight") + self.get(name + ".bias")

    def feed_forward(self, part: str, x: Tensor) -> Tensor:
        return self.dense(
            part + "w_2", silu(self.dense(part + "w_1", self.norm(part + "layer_norm", x)))
        )

    def attention(self, part: str, x: Tensor) -> Tensor:
        """Transformer-XL, section 3.3: (q + u) k + (q + v) W_r R(i - j)."""
        time, size = len(x), HIDDEN // HEADS
        queries, keys, values = (self.dense(part + f"linear_{c}", x) for c in "qkv")
        u, v = self.get(part + "pos_bias_u"), self.get(part + "pos_bias_v")
        heads = []
        for h in range(HEADS):
            mine = slice(h * size, (h + 1) * size)
            scores = torch.empty(time, time, dtype=torch.float64)
            for i in range(time):
                for j in range(time):
                    r = self.get(part + "linear_pos.weight") @ sinusoid(i - j)
                    q = queries[i, mine]
                    scores[i, j] = (q + u[h]) @ keys[j, mine] + (q + v[h]) @ r[mine]
            heads.append((scores / math.sqrt(size)).softmax(-1) @ values[:, mine])
        return self.dense(part + "linear_out", torch.cat(heads, dim=-1))

    def convolution(self, part: str, x: Tensor) -> Tensor:
        x = self.norm(part + "layer_norm", x) @ self.get(part + "pointwise_conv1.weight")[..., 0].T
        x = x[:, :HIDDEN] * torch.sigmoid(x[:, HIDDEN:])
        taps = self.get(part + "depthwise_conv.weight")[:, 0]
        side = torch.zeros(KERNEL // 2, HIDDEN, dtype=torch.float64)
        around = torch.cat([side, x, side])
        x = sum(around[t : t + len(x)] * taps[:, t] for t in range(KERNEL))
        batch = part + "batch_norm."
        x = (x - self.get(batch + "running_mean")) / (self.get(batch + "running_var") + 1e-5).sqrt()
        x = silu(x * self.get(batch + "weight") + self.get(batch + "bias"))
        return x @ self.get(part + "pointwise_conv2.weight")[..., 0].T


def sinusoid(distance: int) -> Tensor:
    angles = [distance / 10_000 ** (k / HIDDEN) for k in range(0, HIDDEN, 2)]
    return torch.tensor([f(a) for a in angles for f in (math.sin, math.cos)], dtype=torch.float64)


def write(folder: Path, tensors: dict[str, Tensor], **options) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": tensors}, folder / "spenc.pt", **options)
    return folder / "spenc.pt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    base = tmp_path_factory.mktemp("sonar modèles")
    convert(write(base, released()), base / "sonar")
    return str(base / "sonar")


def waves(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0.01, 0.1, int(16_000 * s)).astype(np.float32) for s in seconds]


def collate(items: list[Tensor]) -> dict[str, Tensor]:
    return Spans.collate(None, items)


def test_frames_are_those_of_the_original(folder):
    encoder = SpeechEncoder(folder).eval()
    reference = Reference(released())
    for features in map(FrontEnd(folder), waves(0.47, 0.1)):
        with torch.no_grad():
            frames, _ = encoder(**collate([features]))
        assert torch.allclose(frames[0].double(), reference(features), atol=1e-5)


def test_the_folder_holds_what_the_sizes_say_and_where_it_came_from(folder, tmp_path):
    config = json.loads((Path(folder) / "config.json").read_text())
    assert config["model_type"] == "sonar_speech"
    sizes = [config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size")]
    assert sizes == [LAYERS, HIDDEN, INNER]
    assert (config["num_attention_heads"], config["conv_depthwise_kernel_size"]) == (HEADS, KERNEL)
    record = json.loads((Path(folder) / "model.json").read_text())
    assert record["origin"] == "spenc.pt"
    assert len(record["sha256"]) == 64
    assert FrontEnd(folder)(waves(0.2)[0]).shape[1] == 2 * BINS


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_values_and_precision_are_kept_in_either_file_format(tmp_path, options):
    tensors = {n: t.half() if t.is_floating_point() else t for n, t in released().items()}
    convert(write(tmp_path, tensors, **options), tmp_path / "m")
    kept = load_file(tmp_path / "m" / "model.safetensors")
    name = "encoder.layers.1.ffn2.output_dense.weight"
    assert torch.equal(kept[name], tensors[W2V + "encoder.layers.1.ffn2.w_2.weight"])
    assert not any("mask_emb" in n or "pos_conv" in n or "decoder" in n for n in kept)
    assert next(SpeechEncoder(str(tmp_path / "m")).parameters()).dtype == torch.float32


def test_an_utterance_alone_and_in_a_batch_give_the_same_frames(folder):
    """In training too: batch normalisation over a batch would count its padding."""
    encoder = SpeechEncoder(folder)
    # Odd numbers of filter-bank frames, and one utterance of 5 ms.
    items = [FrontEnd(folder)(wave) for wave in waves(1.0, 0.333, 0.715, 0.005)]
    for mode in (False, True):
        encoder.train(mode)
        with torch.no_grad():
            frames, mask = encoder(**collate(items))
            for i, item in enumerate(items):
                alone, _ = encoder(**collate([item]))
                assert mask[i].sum() == alone.shape[1] > 0
                assert torch.allclose(frames[i, mask[i]], alone[0], atol=1e-5)


def test_what_lies_in_the_padding_has_no_influence(folder):
    encoder = SpeechEncoder(folder).eval()
    batch = collate([FrontEnd(folder)(wave) for wave in waves(0.8, 0.3)])
    with torch.no_grad():
        frames, mask = encoder(**batch)
        noise = 100 * torch.randn(batch["inputs"].shape)
        noisy, _ = encoder(batch["inputs"] + noise * ~mask.unsqueeze(-1), mask)
    assert torch.allclose(frames[mask], noisy[mask], atol=1e-5)


def net(folder: str, adaptation: str, **options) -> SpeechNet:
    torch.manual_seed(0)
    lora = Lora(**LORA) if adaptation == "lora" else None
    encoder = SpeechEncoder(folder, adaptation=adaptation, lora=lora, **options)
    return SpeechNet(encoder, build_pooling("mean", HIDDEN, 4), DenseHead(HIDDEN, 8, 3))


def step(network: SpeechNet, folder: str) -> dict[str, Tensor]:
    """One step of training; gives the gradients."""
    batch = collate([FrontEnd(folder)(wave) for wave in waves(0.5, 0.3, 0.4)])
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1)
    cross_entropy(network.train()(**batch), torch.tensor([0, 1, 2])).backward()
    optimiser.step()
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_depth_is_handed_out_and_the_last_is_the_output(folder, checkpointing):
    encoder = SpeechEncoder(folder, gradient_checkpointing=checkpointing).train()
    batch = collate([FrontEnd(folder)(wave) for wave in waves(0.5, 0.3)])
    frames, mask = encoder(**batch)
    states, again = encoder.hidden_states(**batch)
    assert len(states) == encoder.depth == LAYERS + 1
    assert torch.equal(states[-1], frames) and torch.equal(mask, again)
    first = encoder.backbone.feature_projection(batch["inputs"])
    assert torch.allclose(states[0][mask], first[mask], atol=1e-6)
    gradients = torch.autograd.grad(sum(s.square().sum() for s in states), encoder.parameters())
    assert all(g is not None for g in gradients)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_moves_the_adapters_and_nothing_else(folder, checkpointing):
    """Statistics of batch normalisation would move without being trained."""
    network = net(folder, "lora", gradient_checkpointing=checkpointing)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    step(network, folder)
    state = network.state_dict().items()
    moved = {n for n, t in state if n.startswith("encoder.") and not torch.equal(before[n], t)}
    # At first B is zero, so that A has no gradient.
    assert len(moved) == LAYERS * len(QKVO)
    assert all("lora_B" in name for name in moved)


def test_frozen_trains_nothing_of_the_encoder_and_full_all(folder):
    assert not [n for n in step(net(folder, "frozen"), folder) if n.startswith("encoder.")]
    network = net(folder, "full")
    before = {name: tensor.clone() for name, tensor in network.encoder.state_dict().items()}
    gradients = step(network, folder)
    assert gradients.keys() == {name for name, _ in network.named_parameters()}
    still = {n for n, t in network.encoder.state_dict().items() if torch.equal(before[n], t)}
    # The softmax does not see what is added to all keys.
    still = {name for name in still if not name.endswith("linear_k.bias")}
    assert {name.split(".")[-2] for name in still} == {"batch_norm"}
    assert not any(name.endswith(("weight", "bias")) for name in still)


def test_gradient_checkpointing_changes_no_gradient(folder):
    plain = step(net(folder, "full"), folder)
    saving = net(folder, "full", gradient_checkpointing=True)
    layers = saving.encoder.backbone.encoder.layers
    assert all(layer.gradient_checkpointing for layer in layers)
    for name, gradient in step(saving, folder).items():
        assert torch.allclose(gradient, plain[name], atol=1e-6), name


def test_trained_tensors_put_back_give_the_same_bits(folder, tmp_path):
    network = net(folder, "lora")
    step(network, folder)
    weights.save_trained(network, tmp_path / "t.safetensors")
    again = net(folder, "lora")
    weights.load_trained(again, tmp_path / "t.safetensors")
    batch = collate([FrontEnd(folder)(wave) for wave in waves(0.5, 0.3)])
    with torch.no_grad():
        assert torch.equal(network.eval()(**batch), again.eval()(**batch))


def test_a_model_saved_by_transformers_comes_back_the_same(folder, tmp_path):
    encoder = SpeechEncoder(folder)
    encoder.backbone.save_pretrained(tmp_path)
    again = SpeechEncoder(str(tmp_path)).state_dict()
    assert again.keys() == encoder.state_dict().keys()
    assert all(torch.equal(tensor, again[n]) for n, tensor in encoder.state_dict().items())


def test_a_pass_in_bfloat16_leaves_no_trace(folder):
    """transformers rounds its table of positions to bfloat16 for good."""
    encoder = SpeechEncoder(folder).eval()
    batch = collate([FrontEnd(folder)(waves(0.5)[0])])
    with torch.no_grad():
        before, _ = encoder(**batch)
        with torch.autocast("cpu", torch.bfloat16):
            rounded, _ = encoder(**batch)
        after, _ = encoder(**batch)
    assert torch.equal(before, after)
    assert torch.allclose(before, rounded.float(), atol=0.2)


def test_longer_than_the_table_of_positions_works(folder):
    encoder = SpeechEncoder(folder).eval()
    features = torch.randn(1, 40, 2 * BINS)
    mask = torch.ones(1, 40, dtype=torch.bool)
    with torch.no_grad():
        expected, _ = encoder(features, mask)
        positions = encoder.backbone.encoder.embed_positions
        positions.pe = positions.pe[:, 4095 - 9 : 4095 + 10]
        longer, _ = encoder(features, mask)
    assert torch.equal(expected, longer)


def test_the_released_size_has_the_parameters_of_the_encoder_without_its_pooler(monkeypatch):
    with torch.device("meta"):
        monkeypatch.setattr(
            encoders_module, "_load", lambda *_: SonarSpeechEncoder(SonarSpeechConfig())
        )
        lora = Lora(rank=32, alpha=32, dropout=0.05, target_modules=QKVO)
        encoder = SpeechEncoder("sonar", adaptation="lora", lora=lora)
        pooling = build_pooling("attentive_statistics", encoder.output_size, 128)
        network = SpeechNet(encoder, pooling, DenseHead(pooling.output_size, 768, 10))
        model = SonarSpeechEncoder(SonarSpeechConfig())
    parts = [model.feature_projection, *model.encoder.layers, model.encoder.layer_norm]
    counts = [weights.parameter_counts(part)[1] for part in parts]
    assert counts == [165_184, *[25_226_240] * 24, 2_048]
    assert weights.parameter_counts(model)[1] == sum(counts) == 605_596_992
    # "The same hyperparameters as when training the Wav2Vec2-BERT based model", section 5.
    trainable, total = weights.parameter_counts(network)
    assert trainable == 8_005_643
    assert total - trainable == 605_596_992


def test_the_speech_classifier_learns_with_it(folder, tmp_path):
    chosen = {
        "model": folder,
        "adaptation": "lora",
        "lora": LORA,
        "head": {"pooling": "mean", "hidden": 16},
        "training": {"epochs": 6, "batch_size": 8, "learning_rate": 1e-2},
    }
    system = build("speech_classifier", chosen, context(tmp_path))
    system.fit(tones(tmp_path / "train", 60, seed=1), None)
    test = tones(tmp_path / "test", 30, seed=2)
    assert accuracy(system.predict(test.without_labels()).log_proba, test) > 0.6


ATTENTION = W2V + "encoder.layers.1.self_attn."


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        (ATTENTION + "linear_q.bias", None, r"missing tensors \(1\): {}"),
        (W2V + "post_extract_proj.weight", None, "it has no tensor '{}'"),
        (
            W2V + "encoder.layers.0.conv_module.batch_norm.running_var",
            None,
            r"missing tensors \(1\): {}",
        ),
        (ATTENTION + "linear_z.weight", torch.ones(2), r"unknown tensors \(1\): {}"),
        ("encoder.proj.weight", torch.ones(2), r"unknown tensors \(1\): {}"),
        (W2V + "encoder.layers.7.ffn1.w_1.bias", torch.ones(2), r"unknown tensors \(1\): {}"),
        (ATTENTION + "linear_q.bias", torch.ones(3), r"{} has shape \(3,\), expected is \(16,\)"),
        (W2V + "encoder.layers.0.self_attn.pos_bias_u", torch.ones(5, 3), "num_attention_heads 5"),
        (
            W2V + "post_extract_proj.weight",
            torch.ones(16),
            r"'{}' has shape \(16,\), expected are 2",
        ),
    ],
)
def test_other_tensors_than_the_released_ones_are_refused_by_name(tmp_path, name, tensor, said):
    tensors = released() | {name: tensor}
    file = write(tmp_path, {n: t for n, t in tensors.items() if t is not None})
    with pytest.raises(UserError, match=r"(?s)spenc\.pt.*" + said.format(name)):
        convert(file, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["spenc.pt"]


@dataclass
class Code:
    """Unpickling this makes a folder."""

    path: str

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path, zipped):
    bad = {"model": released(), "cfg": Code(str(tmp_path / "ran"))}
    torch.save(bad, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"bad\.pt is not read.*mkdir.*could run code"):
        convert(tmp_path / "bad.pt", tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no checkpoint", r"x\.pt"), (None, r"cannot read .*x\.pt.*No such file"), (b"", r"x\.pt")],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        convert(tmp_path / "x.pt", tmp_path / "m")


def test_a_cut_off_download_is_refused(tmp_path):
    file = write(tmp_path, released())
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(UserError, match=r"spenc\.pt .*and whole"):
        convert(file, tmp_path / "m")


def test_a_checkpoint_without_a_model_is_refused(tmp_path):
    torch.save(released(), tmp_path / "flat.pt")
    with pytest.raises(UserError, match=r"flat\.pt is no SONAR .* under 'model'"):
        convert(tmp_path / "flat.pt", tmp_path / "m")
