"""Convolutions as products of matrices give what torch's own give, gradients too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d
from torch.nn.utils.parametrizations import weight_norm
from transformers import AutoModel

import tiny_models
from serflow.nets import convolution
from serflow.nets.convolution import (
    Grouped,
    Normed,
    Strided,
    grouped_convolution,
    strided_convolution,
    use_products,
)

torch.set_num_threads(1)


def frames(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def gradients(output: torch.Tensor, *of: torch.Tensor) -> tuple[torch.Tensor, ...]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), of)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "time"),
    [
        (3, 2, 40),
        (3, 2, 41),
        (2, 2, 37),
        (10, 5, 63),
        (5, 3, 5),
        (10, 4, 31),
        (10, 5, 15),
        (10, 5, 10),
    ],
)
@pytest.mark.parametrize("channels", [6, 1])
def test_a_strided_convolution(channels, kernel, stride, time, bias):
    """Frames behind the last window get no gradient; those in two windows get both."""
    given = frames(2, channels, time)
    theirs = nn.Conv1d(channels, 8, kernel, stride=stride, bias=bias).double()
    ours = copy.deepcopy(theirs)
    ours.__class__ = type("StridedConv1d", (Strided, nn.Conv1d), {})
    assert torch.allclose(ours(given), theirs(given), rtol=0, atol=1e-12)
    wanted = gradients(theirs(given), given, *theirs.parameters())
    for found, expected in zip(
        gradients(ours(given), given, *ours.parameters()), wanted, strict=True
    ):
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_frames_within_another_tensor():
    """Parts are views of the memory from where the frames begin."""
    given, weight = frames(3, 21, 4)[1:], frames(5, 4, 3)
    found = strided_convolution(given, weight, 2)
    expected = conv1d(given.transpose(1, 2), weight, stride=2).transpose(1, 2)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("time", [3, 7, 8, 30])
@pytest.mark.parametrize(("kernel", "padding"), [(16, 8), (19, 9), (3, 0), (4, 3)])
def test_a_convolution_in_groups(kernel, padding, time):
    """Outputs come in blocks of eight: fewer, as many and more, in even and odd kernels."""
    given, weight, bias = frames(2, 12, time), frames(8, 3, kernel), frames(8)
    theirs = conv1d(given, weight, bias, padding=padding, groups=4)
    ours = grouped_convolution(given, weight, bias, groups=4, padding=padding)
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    for found, expected in zip(
        gradients(ours, given, weight, bias), gradients(theirs, given, weight, bias), strict=True
    ):
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_either_gradient_alone(monkeypatch):
    """Below frozen layers nothing is computed for the inputs."""
    given, weight = frames(1, 4, 20), frames(4, 2, 3)
    theirs = gradients(conv1d(given, weight, padding=1, groups=2), given, weight)
    (of_given,) = gradients(grouped_convolution(given, weight.detach(), None, 2, 1), given)
    assert torch.allclose(of_given, theirs[0], rtol=0, atol=1e-12)
    output = grouped_convolution(given.detach(), weight, None, 2, 1)
    monkeypatch.setattr(convolution, "_correlate", lambda *_: pytest.fail("not wanted"))
    (of_weight,) = gradients(output, weight)
    assert torch.allclose(of_weight, theirs[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [0, 2])
def test_plain_weight_normalisation_is_torchs(dim):
    theirs = weight_norm(nn.Conv1d(4, 6, 5), dim=dim).double()
    ours = copy.deepcopy(theirs)
    ours.parametrizations.weight[0].__class__ = convolution.PlainWeightNorm
    assert torch.allclose(ours.weight, theirs.weight, rtol=0, atol=1e-12)
    of = [ours.parametrizations.weight.original0, ours.parametrizations.weight.original1]
    wanted = [theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1]
    for found, expected in zip(
        gradients(ours.weight, *of), gradients(theirs.weight, *wanted), strict=True
    ):
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_a_models_convolutions_are_found_and_it_says_the_same(tmp_path, monkeypatch, kind, norm):
    """Names in checkpoints do not change."""
    folder = tiny_models.conv_encoder(tmp_path, kind, norm)
    theirs = AutoModel.from_pretrained(folder).double().eval()
    ours = copy.deepcopy(theirs)
    use_products(ours)
    layers = ours.feature_extractor.conv_layers
    assert all(isinstance(layer.conv, Strided) for layer in layers)
    assert all(isinstance(layer, Normed) == (norm == "layer") for layer in layers)
    assert isinstance(ours.encoder.pos_conv_embed.conv, Grouped)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    # On a CPU groups stay with torch, so what a GPU does is put in place.
    monkeypatch.setattr(
        Grouped,
        "_conv_forward",
        lambda self, given, weight, bias: grouped_convolution(
            given, weight, bias, self.groups, self.padding[0]
        ),
    )
    torch.manual_seed(0)
    wave = torch.randn(2, 8000, dtype=torch.float64)
    for model in (ours, theirs):
        model(wave).last_hidden_state.square().mean().backward()
    assert torch.allclose(ours(wave)[0], theirs(wave)[0], rtol=0, atol=1e-10)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if other.grad is not None:
            assert torch.allclose(mine.grad, other.grad, rtol=0, atol=1e-10), name


def test_other_convolutions_are_left_alone():
    """Depthwise, dilated and padded ones, and those that skip samples between their windows."""
    kept = nn.Sequential(
        nn.Conv1d(4, 4, 3, groups=4, padding=1),
        nn.Conv1d(4, 4, 3, dilation=2),
        nn.Conv1d(4, 4, 3, padding=1),
        nn.Conv1d(4, 4, 2, stride=3),
        nn.Conv1d(1, 4, 10, stride=5, padding=1),
        nn.Conv1d(4, 4, 1),
        nn.Conv1d(4, 4, 3, padding="same", groups=2),
    )
    use_products(kept)
    assert {type(part) for part in kept} == {nn.Conv1d}
