"""Convolutions over the waveform as products of matrices.

Speech encoders read the waveform through strided convolutions without padding, in which neither cuDNN
in bfloat16 nor oneDNN is at its best: over whole frames, one window of them next to the other, they are
one product of matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class WindowedConv1d(nn.Conv1d):
    """A strided convolution without padding; the same to rounding, under the same names."""

    def forward(self, channels: Tensor) -> Tensor:
        """Convolve (batch, channels, time).

        What is returned is a view of (batch, time, channels): a chain of these copies nothing.
        """
        windows = _Windows.apply(
            channels.transpose(1, 2).contiguous(), self.kernel_size[0], self.stride[0]
        )
        weight = self.weight.transpose(1, 2).flatten(1)
        return nn.functional.linear(windows, weight, self.bias).transpose(1, 2)


class _Windows(torch.autograd.Function):
    """Each window of frames as one long vector; the gradient of a frame is summed over its windows."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, length: int, stride: int) -> Tensor:
        batch, time, size = frames.shape
        ctx.shape, ctx.length, ctx.stride = frames.shape, length, stride
        return frames.as_strided(
            (batch, (time - length) // stride + 1, length * size), (time * size, stride * size, 1)
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        frames = gradient.new_zeros(ctx.shape)
        last = (gradient.shape[1] - 1) * ctx.stride + 1
        for place, part in enumerate(gradient.chunk(ctx.length, dim=2)):
            frames[:, place : place + last : ctx.stride] += part
        return frames, None, None


def use_products(backbone: PreTrainedModel) -> None:
    """Let the convolutions of `backbone` over frames be a `WindowedConv1d` each; weights stay in place.

    The first, over single samples, stays what it is: its windows are too short to gain by it.
    """
    front_end = getattr(backbone, "feature_extractor", None)
    for layer in getattr(front_end, "conv_layers", ()):
        convolution = layer.conv
        if (
            type(convolution) is nn.Conv1d
            and convolution.in_channels > 1
            and convolution.groups == 1
            and not any(convolution.padding)
            and convolution.dilation == (1,)
        ):
            convolution.__class__ = WindowedConv1d
