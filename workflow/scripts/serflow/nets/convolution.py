"""Convolutions over time as products of matrices.

Speech encoders read the waveform through strided convolutions without padding, and know positions by a
convolution in groups with a kernel of two seconds. Neither cuDNN in bfloat16 nor oneDNN is at its best
with them: over windows of whole frames, they are a few products of matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from transformers import PreTrainedModel


class Strided:
    """In place of the pass of `nn.Conv1d` without padding and groups; the same to rounding."""

    def _conv_forward(self, channels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve (batch, channels, time).

        What is returned is a view of (batch, time, channels): a chain of these copies nothing.
        """
        windows = _Windows.apply(
            channels.transpose(1, 2).contiguous(), weight.shape[2], self.stride[0]
        )
        return nn.functional.linear(windows, weight.transpose(1, 2).flatten(1), bias).transpose(1, 2)


class Grouped:
    """In place of the pass of `nn.Conv1d` in groups of channels; the same to rounding."""

    def _conv_forward(self, channels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve (batch, channels, time)."""
        if not channels.is_cuda:
            return super()._conv_forward(channels, weight, bias)
        return grouped_convolution(channels, weight, bias, self.groups, self.padding[0])


class PlainWeightNorm(_WeightNorm):
    """Weight normalisation in plain operations: torch's own kernel takes a millisecond on a GPU."""

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        """The weight of length `weight_g` along one dimension and direction `weight_v`."""
        others = [i for i in range(weight_v.ndim) if i != self.dim % weight_v.ndim]
        return weight_v * (weight_g / torch.linalg.vector_norm(weight_v, dim=others, keepdim=True))


def grouped_convolution(
    channels: Tensor, weight: Tensor, bias: Tensor | None, groups: int, padding: int
) -> Tensor:
    """What `torch.nn.functional.conv1d` gives without stride and dilation, to rounding.

    Parameters
    ----------
    channels : Tensor of float, shape (batch, channels, time)
    weight : Tensor of float, shape (outputs, channels / groups, kernel)
    bias : Tensor of float, shape (outputs,), optional
    groups : int
    padding : int
        At most kernel - 1.

    Returns
    -------
    Tensor of float, shape (batch, outputs, time + 2 * padding - kernel + 1)
    """
    dtype = channels.dtype
    if torch.is_autocast_enabled(channels.device.type):
        dtype = torch.get_autocast_dtype(channels.device.type)
    found = _Grouped.apply(channels.to(dtype), weight.to(dtype), groups, padding)
    return found if bias is None else found + bias.to(dtype)[:, None]


class _Windows(torch.autograd.Function):
    """Each window of frames as one long vector; the gradient of a frame is summed over its windows."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, length: int, stride: int) -> Tensor:
        ctx.shape, ctx.length, ctx.stride = frames.shape, length, stride
        return _windows(frames, length, stride)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        frames = gradient.new_zeros(ctx.shape)
        last = (gradient.shape[1] - 1) * ctx.stride + 1
        for place, part in enumerate(gradient.chunk(ctx.length, dim=2)):
            frames[:, place : place + last : ctx.stride] += part
        return frames, None, None


class _Grouped(torch.autograd.Function):
    """One group at a time: the windows of all take kernel times the memory of the frames."""

    @staticmethod
    def forward(ctx: Any, channels: Tensor, weight: Tensor, groups: int, padding: int) -> Tensor:
        ctx.save_for_backward(channels, weight)
        ctx.groups, ctx.padding = groups, padding
        return _correlate(channels, weight.unflatten(0, (groups, -1)), padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        channels, weight = ctx.saved_tensors
        weight = weight.unflatten(0, (ctx.groups, -1))
        kernel = weight.shape[3]
        of_channels = of_weight = None
        if ctx.needs_input_grad[0]:
            mirrored = weight.transpose(1, 2).flip(3)
            of_channels = _correlate(gradient, mirrored, kernel - 1 - ctx.padding)
        if ctx.needs_input_grad[1]:
            frames = _by_group(channels, ctx.groups, ctx.padding)
            outputs = _by_group(gradient, ctx.groups, 0)
            each = [
                (wanted.flatten(0, 1).T @ _windows(given, kernel).flatten(0, 1)).unflatten(
                    1, (kernel, -1)
                )
                for given, wanted in zip(frames, outputs, strict=True)
            ]
            of_weight = torch.cat(each).transpose(1, 2)
        return of_channels, of_weight, None, None


def _correlate(channels: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Channels (batch, channels, time) with a weight (groups, outputs, channels, kernel)."""
    groups, _, _, kernel = weight.shape
    columns = weight.permute(0, 3, 2, 1).flatten(1, 2)
    frames = _by_group(channels, groups, padding)
    found = [
        _windows(given, kernel) @ column for given, column in zip(frames, columns, strict=True)
    ]
    return torch.cat(found, dim=2).transpose(1, 2)


def _by_group(channels: Tensor, groups: int, padding: int) -> Tensor:
    """Padded frames of each group, shape (groups, batch, time, channels of a group)."""
    padded = nn.functional.pad(channels, (padding, padding))
    return padded.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).contiguous()


def _windows(frames: Tensor, length: int, stride: int = 1) -> Tensor:
    """A view of frames (batch, time, size), contiguous: (batch, windows, length * size)."""
    batch, time, size = frames.shape
    n = (time - length) // stride + 1
    return frames.as_strided((batch, n, length * size), (time * size, stride * size, 1), frames.storage_offset())


def use_products(backbone: PreTrainedModel) -> None:
    """Let the convolutions of `backbone` that gain by it be products; weights stay in place.

    That over single samples does not: its windows are too short. Nor do those of single channels.
    """
    for part in list(backbone.modules()):
        if isinstance(part, _WeightNorm):
            part.__class__ = PlainWeightNorm
        elif isinstance(part, nn.Conv1d) and part.dilation == (1,) and part.kernel_size[0] > 1:
            kind = _kind(part)
            if kind is not None:
                part.__class__ = type(f"{kind.__name__}Conv1d", (kind, part.__class__), {})


def _kind(part: nn.Conv1d) -> type | None:
    size = part.in_channels // part.groups
    if size == 1 or not isinstance(part.padding, tuple) or part.padding_mode != "zeros":
        return None
    if part.groups == 1:
        return Strided if part.padding == (0,) else None
    return Grouped if part.stride == (1,) else None
