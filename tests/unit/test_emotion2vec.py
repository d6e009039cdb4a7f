"""emotion2vec, read as FunASR releases it, computes what the original does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional

import tiny_models
from serflow.errors import UserError
from serflow.nets import weights
from serflow.nets.emotion2vec import Emotion2vecConfig, Emotion2vecEncoder
from serflow.nets.emotion2vec_checkpoint import is_released
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.systems.speech_inputs import Spans

torch.set_num_threads(1)
AUDIO = "modality_encoders.AUDIO."


@pytest.fixture
def model(tmp_path):
    return tiny_models.emotion2vec(tmp_path / "emotion2vec")


def original(tensors: dict[str, Tensor], wave: Tensor) -> Tensor:
    """The original's frames of one utterance, as data2vec 2.0 and emotion2vec describe them."""

    def named(name: str) -> tuple[Tensor, Tensor]:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], *named(name))

    x = functional.layer_norm(wave, wave.shape).view(1, 1, -1)
    for i, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        name = f"{AUDIO}local_encoder.conv_layers.{i}"
        x = functional.conv1d(x, tensors[f"{name}.0.weight"], stride=stride)
        x = functional.gelu(norm(x.transpose(1, 2), f"{name}.2.1").transpose(1, 2))
    x = norm(x[0].T, AUDIO + "project_features.1")
    x = functional.linear(x, *named(AUDIO + "project_features.2"))
    positions = x
    for i in (1, 2):
        weight, bias = named(f"{AUDIO}relative_positional_encoder.{i}.0")
        positions = functional.conv1d(positions.T[None], weight, bias, padding=2, groups=2)[0].T
        positions = functional.gelu(functional.layer_norm(positions, positions.shape[-1:]))
    x = torch.cat([tensors[AUDIO + "extra_tokens"][0], x + positions])
    time, hidden = x.shape
    bias = torch.zeros(3, time, time, dtype=wave.dtype)
    # Press et al.: two heads have the slopes 2^-4 and 2^-8, a third the first of four heads.
    for head, slope in enumerate((2**-4, 2**-8, 2**-2)):
        for i in range(4, time):
            for j in range(4, time):
                bias[head, i, j] = -abs(i - j) * slope
    bias *= tensors[AUDIO + "alibi_scale"].clamp(min=0).view(3, 1, 1)
    x = norm(x, AUDIO + "context_encoder.norm")
    for block in (AUDIO + "context_encoder.blocks.0", "blocks.0"):
        qkv = functional.linear(x, *named(block + ".attn.qkv")).view(time, 3, 3, hidden // 3)
        query, key, value = qkv.permute(1, 2, 0, 3)
        weights_ = (query @ key.transpose(1, 2) / (hidden // 3) ** 0.5 + bias).softmax(-1)
        heads = (weights_ @ value).transpose(0, 1).reshape(time, hidden)
        x = norm(x + functional.linear(heads, *named(block + ".attn.proj")), block + ".norm1")
        inner = functional.gelu(functional.linear(x, *named(block + ".mlp.fc1")))
        x = norm(x + functional.linear(inner, *named(block + ".mlp.fc2")), block + ".norm2")
    return x[4:]


def waves() -> list[np.ndarray]:
    # So quiet that what is added to the variance matters: transformers' 1e-7 is not 1e-5.
    rng = np.random.default_rng(0)
    return [rng.normal(0.001, 0.003, n).astype(np.float32) for n in (12_000, 8_001, 5_280)]


def test_frames_are_those_of_the_original_also_in_a_batch(model):
    """In double precision, as rounding in tiny random layer norms comes to 1e-5."""
    front_end, encoder = FrontEnd(str(model)), SpeechEncoder(str(model)).eval().double()
    tensors = torch.load(model / "emotion2vec_base.pt", weights_only=True)["model"]
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    with torch.no_grad():
        batch = Spans.collate(None, [front_end(wave) for wave in waves()])
        frames, mask = encoder(batch["inputs"].double(), batch["mask"])
        for i, wave in enumerate(waves()):
            expected = original(tensors, torch.from_numpy(wave).double())
            assert torch.allclose(frames[i, mask[i]], expected, rtol=0, atol=1e-9)


def test_the_released_size_has_its_parameters():
    """FunASR's network of the base model has 93,790,988, of which its decoder 619,776."""
    with torch.device("meta"):
        encoder = Emotion2vecEncoder(Emotion2vecConfig())
    assert weights.parameter_counts(encoder)[1] == 93_790_988 - 619_776


def test_the_plus_models_prefix_is_that_of_their_config(model):
    expected = SpeechEncoder(str(model)).state_dict()
    settings = yaml.safe_load((model / "config.yaml").read_text())
    (model / "config.yaml").write_text(yaml.safe_dump(settings | {"scope_map": ["d2v.", "none"]}))
    tensors = torch.load(model / "emotion2vec_base.pt", weights_only=True)["model"]
    renamed = {f"d2v.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"model": renamed | {"proj.weight": torch.ones(2)}}, model / "emotion2vec_base.pt")
    found = SpeechEncoder(str(model)).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_saved_front_end_is_the_same(model, tmp_path):
    FrontEnd(str(model)).save(tmp_path / "saved")
    wave = waves()[0]
    assert torch.equal(FrontEnd(str(tmp_path / "saved"))(wave), FrontEnd(str(model))(wave))


def test_training_from_scratch_draws_other_weights(model):
    torch.manual_seed(1)
    fresh = SpeechEncoder(str(model), initial="random").state_dict()
    released = SpeechEncoder(str(model)).state_dict()
    name = "backbone.layers.0.attention.q_proj.weight"
    assert not torch.equal(fresh[name], released[name])
    assert all(torch.isfinite(tensor).all() for tensor in fresh.values())


def test_another_architecture_is_refused_by_name(model):
    settings = yaml.safe_load((model / "config.yaml").read_text())
    settings["model_conf"]["layer_norm_first"] = True
    (model / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match="layer_norm_first is True, expected is False"):
        SpeechEncoder(str(model))


def test_missing_tensors_are_named(model):
    tensors = torch.load(model / "emotion2vec_base.pt", weights_only=True)["model"]
    del tensors["blocks.0.attn.qkv.weight"]
    torch.save({"model": tensors}, model / "emotion2vec_base.pt")
    with pytest.raises(UserError, match=r"3 tensors of the encoder are missing \(layers\.1"):
        SpeechEncoder(str(model))


class Payload:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_checkpoint_with_code_is_not_read(model, capsys):
    torch.save({"model": {}, "cfg": Payload()}, model / "emotion2vec_base.pt")
    with pytest.raises(UserError, match="could run code"):
        SpeechEncoder(str(model))
    assert "code ran" not in capsys.readouterr().out


def test_two_checkpoints_are_not_chosen_between(model):
    torch.save({}, model / "other.pt")
    with pytest.raises(UserError, match=r"emotion2vec_base\.pt, other\.pt; expected"):
        SpeechEncoder(str(model))


def test_other_folders_are_not_taken_for_it(tmp_path):
    (tmp_path / "config.yaml").write_text("model: !other {a: 1}")
    assert not is_released(str(tmp_path))
    assert not is_released("owner/name")
