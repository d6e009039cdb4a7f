"""Attention of speech encoders on a GPU: within utterances, without a mask.

torch's fused attention takes padding as a matrix of truth values, which its fastest kernel, flash
attention, does not read. That kernel reads sequences of any length that lie side by side instead. A row
of a batch is two of them: an utterance and the padding behind it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# Its name among transformers' implementations.
NAME = "serflow_side_by_side"

# What flash attention needs: the size of a head, and the GPU.
MULTIPLE_OF, LARGEST = 8, 256
AMPERE = (8, 0)

_flash_attention = torch.ops.aten._flash_attention_forward


def use_sequences(backbone: PreTrainedModel) -> None:
    """Let `backbone`, whose padding is on the right, attend so where it uses fused attention.

    These are encoders that know positions by a convolution: nothing else enters their attention. In
    single precision and on a CPU nothing changes.
    """
    config = backbone.config
    size = config.hidden_size // config.num_attention_heads
    fitting = size % MULTIPLE_OF == 0 and size <= LARGEST
    plain = hasattr(getattr(backbone, "encoder", None), "pos_conv_embed")
    if plain and fitting and config._attn_implementation == "sdpa":
        config._attn_implementation = NAME


def boundaries(mask: Tensor) -> Tensor:
    """Where the sequences of a batch begin, and where the last ends.

    Parameters
    ----------
    mask : Tensor of bool, shape (batch, time)
        True for real frames, which come first in each row.

    Returns
    -------
    Tensor of int32, shape (2 * batch + 1,)
        Of the rows laid side by side. The padding of a row without any is a sequence of no frames.
    """
    batch, time = mask.shape
    starts = torch.arange(0, batch * time, time, device=mask.device)
    found = torch.stack([starts, starts + mask.sum(dim=1)], dim=1).flatten()
    return nn.functional.pad(found, (0, 1), value=batch * time).int()


def _mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """What layers are given as their mask: boundaries, or what fused attention reads."""
    if attention_mask is not None and _is_fast(attention_mask):
        return boundaries(attention_mask)
    return sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


def _is_fast(mask: Tensor) -> bool:
    """Whether the device of `mask` computes in half precision now, and has flash attention."""
    if not mask.is_cuda or not torch.is_autocast_enabled("cuda"):
        return False
    recent = torch.cuda.get_device_capability(mask.device) >= AMPERE
    return recent and torch.backends.cuda.is_flash_attention_available()


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of (batch, heads, time, size); gives (batch, time, heads, size)."""
    if attention_mask is None or attention_mask.ndim != 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    batch, _, time, _ = query.shape
    query, key, value = (each.transpose(1, 2).flatten(0, 1) for each in (query, key, value))
    # torch.nn.attention.varlen.varlen_attn is the public way, but has no dropout.
    found = _flash_attention(
        query,
        key,
        value,
        attention_mask,
        attention_mask,
        time,
        time,
        dropout,
        is_causal=False,
        return_debug_mask=False,
        scale=scaling,
    )
    return found[0].unflatten(0, (batch, time)), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)
