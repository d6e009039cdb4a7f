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

# Neighbouring outputs of a convolution in groups that are computed from one window: a larger window in
# place of as many that overlap.
BLOCK = 8


class Strided:
    """In place of the pass of `nn.Conv1d` without padding and groups; the same to rounding."""

    def _conv_forward(self, channels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve (batch, channels, time).

        What is returned is a view of (batch, time, channels): a chain of these copies nothing.
        """
        frames = channels.transpose(1, 2).to(_dtype(channels)).contiguous()
        windows = _Windows.apply(frames, weight.shape[2], self.stride[0])
        return nn.functional.linear(windows, weight.transpose(1, 2).flatten(1), bias).transpose(
            1, 2
        )


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
    dtype = _dtype(channels)
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
        frames = gradient.new_empty(ctx.shape)
        # The beginnings of all windows, up to the next window's, lie side by side.
        starts = gradient.shape[1] * ctx.stride
        frames[:, :starts] = gradient[..., : ctx.stride * ctx.shape[2]].reshape(
            len(frames), starts, -1
        )
        frames[:, starts:] = 0
        last = starts - ctx.stride + 1
        for place, part in enumerate(gradient.chunk(ctx.length, dim=2)):
            if place >= ctx.stride:
                frames[:, place : place + last : ctx.stride] += part
        return frames, None, None


class _Grouped(torch.autograd.Function):
    """One group at a time, so that little memory is taken by windows."""

    @staticmethod
    def forward(ctx: Any, channels: Tensor, weight: Tensor, groups: int, padding: int) -> Tensor:
        ctx.save_for_backward(channels, weight)
        ctx.groups, ctx.padding = groups, padding
        return _correlate(channels, weight, groups, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        channels, weight = ctx.saved_tensors
        kernel = weight.shape[2]
        of_channels = of_weight = None
        if ctx.needs_input_grad[0]:
            mirrored = weight.unflatten(0, (ctx.groups, -1)).transpose(1, 2).flatten(0, 1).flip(2)
            padding = kernel - 1 - ctx.padding
            of_channels = _correlate(gradient, mirrored, ctx.groups, padding)
        if ctx.needs_input_grad[1]:
            frames = _by_group(channels, ctx.groups, ctx.padding, kernel)
            outputs = _by_group(gradient, ctx.groups, 0, 1)
            # Of outputs at a place in their block, to inputs at a place in the window.
            each = torch.stack(
                [
                    _windows(wanted, BLOCK, BLOCK).flatten(0, 1).T
                    @ _windows(given, kernel + BLOCK - 1, BLOCK).flatten(0, 1)
                    for given, wanted in zip(frames, outputs, strict=True)
                ]
            ).unflatten(2, (kernel + BLOCK - 1, -1))
            each = each.unflatten(1, (BLOCK, -1))
            of_weight = sum(each[:, i, :, i : i + kernel] for i in range(BLOCK))
            of_weight = of_weight.flatten(0, 1).transpose(1, 2)
        return of_channels, of_weight, None, None


def _correlate(channels: Tensor, weight: Tensor, groups: int, padding: int) -> Tensor:
    """Channels (batch, channels, time) with a weight (outputs, channels of a group, kernel)."""
    outputs, size, kernel = weight.shape
    time = channels.shape[2] + 2 * padding - kernel + 1
    columns = weight.new_zeros(groups, kernel + BLOCK - 1, size, BLOCK, outputs // groups)
    each = weight.unflatten(0, (groups, -1)).permute(0, 3, 2, 1)
    for i in range(BLOCK):
        columns[:, i : i + kernel, :, i] = each
    columns = columns.flatten(1, 2).flatten(2)
    frames = _by_group(channels, groups, padding, kernel)
    found = [
        _windows(given, kernel + BLOCK - 1, BLOCK) @ column
        for given, column in zip(frames, columns, strict=True)
    ]
    found = torch.stack(found, dim=1).unflatten(3, (BLOCK, -1))
    # (batch, groups, blocks, places, outputs of a group)
    return found.permute(0, 1, 4, 2, 3).flatten(3).flatten(1, 2)[..., :time]


def _by_group(channels: Tensor, groups: int, padding: int, kernel: int) -> Tensor:
    """Frames of each group, shape (groups, batch, time, channels of a group).

    Padded by `padding`, and on the right so that windows of `kernel` come in whole blocks.
    """
    outputs = channels.shape[2] + 2 * padding - kernel + 1
    padded = nn.functional.pad(channels, (padding, padding + -outputs % BLOCK))
    return padded.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).contiguous()


def _windows(frames: Tensor, length: int, stride: int) -> Tensor:
    """A view of frames (batch, time, size), contiguous: (batch, windows, length * size)."""
    batch, time, size = frames.shape
    shape = (batch, (time - length) // stride + 1, length * size)
    return frames.as_strided(shape, (time * size, stride * size, 1), frames.storage_offset())


def _dtype(channels: Tensor) -> torch.dtype:
    """In which products are computed."""
    kind = channels.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return channels.dtype


def use_products(backbone: PreTrainedModel) -> None:
    """Let the convolutions of `backbone` that gain by it be products; weights stay in place.

    That over single samples does not: its windows are too short. Nor do those of single channels.
    """
    for part in list(backbone.modules()):
        if isinstance(part, _WeightNorm):
            part.__class__ = PlainWeightNorm
        elif isinstance(part, nn.Conv1d):
            kind = _kind(part)
            if kind is not None:
                part.__class__ = type(f"{kind.__name__}Conv1d", (kind, part.__class__), {})


def _kind(part: nn.Conv1d) -> type | None:
    (kernel,), (stride,) = part.kernel_size, part.stride
    plain = part.dilation == (1,) and part.padding_mode == "zeros"
    plain = plain and isinstance(part.padding, tuple)
    if not plain or part.in_channels == part.groups or not 1 < kernel >= stride:
        return None
    if part.groups == 1:
        return Strided if part.padding == (0,) else None
    return Grouped if stride == 1 and part.padding[0] < kernel else None
