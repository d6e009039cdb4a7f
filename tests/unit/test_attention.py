"""Attention without a mask on a GPU: an utterance hears itself, and not its padding or its neighbours."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import tiny_models
from serflow.nets import attention
from serflow.nets.encoders import SpeechEncoder

torch.set_num_threads(1)


def masked(*lengths: int, time: int) -> torch.Tensor:
    return torch.arange(time) < torch.tensor(lengths)[:, None]


def test_padding_is_a_sequence_of_its_own():
    found = attention.boundaries(masked(3, 5, 1, time=5))
    assert found.tolist() == [0, 3, 5, 10, 10, 11, 15]
    assert found.dtype == torch.int32


def flash(
    query, key, value, starts, ends, longest, _, dropout, is_causal, return_debug_mask, scale
):
    """What torch's kernel does with sequences side by side, in plain words."""
    assert torch.equal(starts, ends) and not is_causal and not return_debug_mask
    found = torch.full_like(query, torch.nan)
    for first, last in itertools.pairwise(starts):
        assert last - first <= longest
        each = (part[first:last].transpose(0, 1) for part in (query, key, value))
        heard = scaled_dot_product_attention(*each, dropout_p=dropout, scale=scale)
        found[first:last] = heard.transpose(0, 1)
    return found, None, None, None, None


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_an_encoder_says_the_same_without_a_mask(tmp_path, monkeypatch, kind):
    folder = tiny_models.conv_encoder(tmp_path, kind, "layer")
    encoder = SpeechEncoder(str(folder), initial="random").eval()
    assert encoder.backbone.config._attn_implementation == attention.NAME
    torch.manual_seed(0)
    waves, mask = torch.randn(3, 6000), masked(6000, 4000, 900, time=6000)
    expected, frame_mask = encoder(waves, mask)
    called = []
    monkeypatch.setattr(attention, "_is_fast", lambda mask: True)
    monkeypatch.setattr(
        attention, "_flash_attention", lambda *a, **k: called.append(1) or flash(*a, **k)
    )
    found, _ = encoder(waves, mask)
    assert len(called) == encoder.depth - 1
    assert found.isfinite().all()
    assert torch.allclose(found[frame_mask], expected[frame_mask], atol=1e-5)


@pytest.mark.parametrize("asked", ["eager", "wavlm", "w2v-bert"])
def test_where_more_than_frames_enter_it_attention_is_left_alone(tmp_path, asked):
    """Relative positions are added to the scores; and "eager" is what was asked for."""
    if asked == "w2v-bert":
        folder = tiny_models.w2v_bert(tmp_path)
    else:
        folder = tiny_models.conv_encoder(
            tmp_path, "wavlm" if asked == "wavlm" else "hubert", "layer"
        )
    choice = "eager" if asked == "eager" else "sdpa"
    encoder = SpeechEncoder(str(folder), initial="random", attention=choice)
    assert encoder.backbone.config._attn_implementation != attention.NAME


def test_torch_has_the_operation_as_it_is_called():
    """It is not among torch's public ones, so another release may change it."""
    query = torch.empty(2, 4, 10, 64, dtype=torch.bfloat16, device="meta", requires_grad=True)
    bounds = torch.empty(5, dtype=torch.int32, device="meta")
    found, _ = attention._attend(None, query, query, query, bounds, dropout=0.1, scaling=0.125)
    assert found.shape == (2, 10, 4, 64)
    found.sum().backward()
    assert query.grad.shape == query.shape
