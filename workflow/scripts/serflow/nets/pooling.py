"""Pooling of a sequence of frames to one vector, blind to padding.

Every module takes frames and the mask of real frames, and gives the same vector for an utterance
alone and for the same utterance padded in a batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

# Keeps the gradient of the square root finite where a dimension does not vary over time.
VARIANCE_FLOOR = 1e-6


class MaskedMean(nn.Module):
    """Mean of the real frames.

    Parameters
    ----------
    size : int
        Dimension of a frame.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.output_size = size

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool.

        Parameters
        ----------
        frames : Tensor of float, shape (batch, time, size)
        mask : Tensor of bool, shape (batch, time)
            True for real frames; at least one in each row.

        Returns
        -------
        Tensor of float, shape (batch, size)
        """
        frames = frames.float()
        weights = mask.to(frames.dtype) / mask.sum(dim=1, keepdim=True)
        return _weighted_mean(frames, weights)


class AttentiveMean(nn.Module):
    r"""Mean of the frames weighted by learnt attention.

    .. math:: w_t = softmax_t(v^T \tanh(W h_t + b) + c), \quad \mu = \sum_t w_t h_t

    Parameters
    ----------
    size : int
        Dimension of a frame.
    bottleneck : int
        Rows of W.

    References
    ----------
    TalTech, Odyssey 2024, section 3.1 ("attentive pooling layer").
    """

    def __init__(self, size: int, bottleneck: int) -> None:
        super().__init__()
        self.output_size = size
        self.score = nn.Sequential(nn.Linear(size, bottleneck), nn.Tanh(), nn.Linear(bottleneck, 1))

    def weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Attention over time, 0 on padding and summing to 1; shape (batch, time)."""
        scores = self.score(frames).squeeze(-1).float()
        return scores.masked_fill(~mask, -torch.inf).softmax(dim=1)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool (batch, time, size) under mask (batch, time) to (batch, size)."""
        return _weighted_mean(frames.float(), self.weights(frames, mask))


class AttentiveStatistics(AttentiveMean):
    r"""Attentive mean, followed by the standard deviation under the same weights.

    .. math:: \sigma = \sqrt{\sum_t w_t (h_t - \mu)^2 + \epsilon}

    References
    ----------
    K. Okabe, T. Koshinaka and K. Shinoda, "Attentive statistics pooling for deep speaker embedding",
    Interspeech 2018, section 3.
    """

    def __init__(self, size: int, bottleneck: int) -> None:
        super().__init__(size, bottleneck)
        self.output_size = 2 * size

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool (batch, time, size) under mask (batch, time) to (batch, 2 * size)."""
        weights = self.weights(frames, mask)
        frames = frames.float()
        mean = _weighted_mean(frames, weights)
        variance = _weighted_mean((frames - mean.unsqueeze(1)).square(), weights)
        return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=1)


def build_pooling(
    name: Literal["attentive_statistics", "attentive", "mean"], size: int, bottleneck: int
) -> nn.Module:
    """The pooling of that name for frames of `size` dimensions; it has an `output_size`."""
    if name == "mean":
        return MaskedMean(size)
    kind = {"attentive": AttentiveMean, "attentive_statistics": AttentiveStatistics}[name]
    return kind(size, bottleneck)


def _weighted_mean(frames: Tensor, weights: Tensor) -> Tensor:
    # A product with weight 0 is NaN where padding holds NaN or inf; encoders never emit those.
    return torch.einsum("bt,bth->bh", weights, frames)
