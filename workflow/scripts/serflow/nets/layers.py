"""Which depth of the encoder is heard: a learnt mixture of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightedSum(nn.Module):
    r"""Sum of the frames of all depths under learnt weights, equal at first.

    .. math:: h_t = \sum_l softmax(w)_l h_{l,t}

    Parameters
    ----------
    depth : int
        Number of depths: the encoder's input and each of its layers.

    References
    ----------
    S. Yang et al., "SUPERB: Speech processing universal performance benchmark", Interspeech 2021,
    section 2; the parameter is that of transformers' `use_weighted_layer_sum`.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layer_weights = nn.Parameter(torch.full((depth,), 1 / depth))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Mix `depth` tensors of shape (batch, time, size) to one."""
        # Under autocast the last, which a norm gives, is in single precision, and all others in half.
        alike = torch.stack([state.to(states[0].dtype) for state in states])
        return torch.tensordot(self.layer_weights.softmax(dim=0).to(alike.dtype), alike, dims=1)
