"""WavLM's attention through its projection layers, so that low-rank adaptation reaches them.

transformers hands the weights of WavLM's projections to
`torch.nn.functional.multi_head_attention_forward` and never calls the layers themselves. peft adapts
a layer's forward pass: on WavLM its updates would get no gradient, without any word of warning.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


class LayeredAttention(WavLMAttention):
    """The same attention, computed by the layers `q_proj`, `k_proj`, `v_proj` and `out_proj`.

    Attributes
    ----------
    fused : bool
        Use torch's fused attention.
    """

    fused: bool

    def torch_multi_head_self_attention(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None,
        gated_position_bias: Tensor,
    ) -> tuple[Tensor, None]:
        """Attend; the name is that of the method it replaces.

        Parameters
        ----------
        hidden_states : Tensor, shape (batch, time, hidden_size)
        attention_mask : Tensor of bool, shape (batch, time), optional
        gated_position_bias : Tensor, shape (batch * heads, time, time)
            Added to the scores.
        """
        batch, time, _ = hidden_states.shape
        query, key, value = (
            layer(hidden_states).view(batch, time, self.num_heads, self.head_dim).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias = gated_position_bias.view(batch, self.num_heads, time, time).to(query.dtype)
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask.bool()[:, None, None], -torch.inf)
        dropout = self.dropout if self.training else 0.0
        if self.fused:
            heads = nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=bias, dropout_p=dropout
            )
        else:
            weights = (query @ key.transpose(2, 3) * self.scaling + bias).softmax(dim=-1)
            heads = nn.functional.dropout(weights, dropout) @ value
        return self.out_proj(heads.transpose(1, 2).reshape(batch, time, -1)), None


def use_layers(backbone: nn.Module, fused: bool = True) -> None:
    """Let every WavLM attention in `backbone` be a `LayeredAttention`; weights stay in place."""
    for part in backbone.modules():
        if type(part) is WavLMAttention:
            part.__class__ = LayeredAttention
            part.fused = fused
