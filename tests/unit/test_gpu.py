"""What runs on a GPU alone, against the same in plain words. Skipped, and said so, where there is none.

Run: python -m pytest tests/unit/test_gpu.py
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import tiny_models
from benchmarks.gpu import switch_off_dropout
from serflow.nets import attention
from serflow.nets.convolution import Grouped, Strided, use_products
from serflow.nets.encoders import SpeechEncoder
from word_bag import train_bag

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Strided, {"in_channels": 512, "kernel_size": 3, "stride": 2}),
        (Strided, {"in_channels": 512, "kernel_size": 2, "stride": 2}),
        (Strided, {"in_channels": 1, "kernel_size": 10, "stride": 5}),
        (Grouped, {"in_channels": 512, "kernel_size": 128, "padding": 64, "groups": 16}),
    ],
)
@pytest.mark.parametrize("time", [800, 801])
def test_convolutions_in_bfloat16_are_those_in_double_to_its_rounding(kind, arguments, time):
    torch.manual_seed(0)
    ours = nn.Conv1d(out_channels=512, **arguments).cuda()
    theirs = copy.deepcopy(ours).double()
    use_products(ours)
    assert isinstance(ours, kind)
    given = torch.randn(3, arguments["in_channels"], time, device="cuda", requires_grad=True)
    double = given.detach().double().requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        found = ours(given)
    expected = theirs(double)
    assert found.dtype == torch.bfloat16
    assert relative(found, expected) < 1e-2
    weights = torch.randn_like(expected)
    mine = torch.autograd.grad(found, (given, *ours.parameters()), weights.to(found.dtype))
    others = torch.autograd.grad(expected, (double, *theirs.parameters()), weights)
    for ours_, theirs_ in zip(mine, others, strict=True):
        assert relative(ours_, theirs_) < 1e-2


def encoder(folder, compile: bool) -> SpeechEncoder:
    """Without dropout, as its random numbers are drawn in another order by other kernels."""
    torch.manual_seed(0)
    net = SpeechEncoder(str(folder), initial="random", compile=compile).cuda().train()
    switch_off_dropout(net)
    return net


def heard(net: SpeechEncoder, *lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Real frames in half precision, and the gradients that they give all parameters."""
    generator = torch.Generator("cuda").manual_seed(1)
    size = (len(lengths), max(lengths))
    waves = torch.randn(size, generator=generator, device="cuda")
    mask = torch.arange(size[1], device="cuda") < torch.tensor(lengths, device="cuda")[:, None]
    net.zero_grad()
    with torch.autocast("cuda", torch.bfloat16):
        frames, real = net(waves, mask)
    frames = frames[real].float()
    (frames * torch.linspace(-1, 1, frames.numel(), device="cuda").view_as(frames)).sum().backward()
    grads = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
    return frames.detach(), torch.cat(grads)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_attention_without_a_mask_is_that_with_one(tmp_path, monkeypatch, kind):
    """An utterance alone in its row, one with padding, and one that is nearly all padding."""
    net = encoder(tiny_models.conv_encoder(tmp_path, kind, "layer"), compile=False)
    flash, calls = attention._flash_attention, []
    monkeypatch.setattr(
        attention, "_flash_attention", lambda *a, **k: calls.append(1) or flash(*a, **k)
    )
    found = heard(net, 24_000, 20_000, 1_000)
    assert len(calls) == net.depth - 1
    monkeypatch.setattr(attention, "_is_fast", lambda mask: False)
    for ours, theirs in zip(found, heard(net, 24_000, 20_000, 1_000), strict=True):
        assert relative(ours, theirs) < 2e-2
    assert len(calls) == net.depth - 1


def test_a_compiled_encoder_says_and_learns_what_a_plain_one_does(tmp_path):
    folder = tiny_models.conv_encoder(tmp_path, "hubert", "layer")
    plain, compiled = encoder(folder, compile=False), encoder(folder, compile=True)
    compiled.load_state_dict(plain.state_dict())
    for lengths in ((24_000, 20_000), (16_001, 16_001), (31_333, 9_000, 5_000)):
        for ours, theirs in zip(heard(compiled, *lengths), heard(plain, *lengths), strict=True):
            assert relative(ours, theirs) < 2e-2


def test_recorded_steps_learn_what_plain_ones_do(tmp_path):
    """Over effective batches of two, and shapes that come again."""
    plain, _ = train_bag(tmp_path / "plain", recorded=False)
    recorded, _ = train_bag(tmp_path / "recorded", recorded=True)
    assert plain[-1] < plain[0]
    assert np.allclose(plain, recorded, rtol=0, atol=2e-2)
