"""Convolutions over time as products of matrices.

Speech encoders read the waveform through strided convolutions without padding, and know positions by a
convolution in groups with a kernel of two seconds. Neither cuDNN in bfloat16 nor oneDNN is at its best
with them: over windows of whole frames, they are a few products of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv_transpose1d, pad
from torch.nn.utils.parametrizations import _WeightNorm
from transformers import PreTrainedModel

# Neighbouring outputs of a convolution in groups that are computed from one window: a larger window in
# place of as many that overlap.
BLOCK = 8

# The same, of a convolution over single samples, and what its windows' lengths are multiples of: GPUs
# multiply matrices fast whose rows take a multiple of 16 bytes.
PAIR, ALIGNED = 2, 8


class Strided:
    """In place of the pass of `nn.Conv1d` without padding and groups; the same to rounding."""

    def _conv_forward(self, channels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve (batch, channels, time).

        What is returned is a view of (batch, time, channels): a chain of these copies nothing.
        """
        frames = strided_convolution(channels.transpose(1, 2), weight, self.stride[0])
        return (frames if bias is None else frames + bias.to(frames.dtype)).transpose(1, 2)


class Normed:
    """In place of the pass of a layer of transformers: convolution, layer norm, activation.

    The same, to rounding. All but the product is one function of frames as they lie in memory, which
    torch's compiler makes one pass of.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Convolve (batch, channels, time), normalise and activate."""
        conv = self.conv
        frames = strided_convolution(hidden_states.transpose(1, 2), conv.weight, conv.stride[0])
        return self.finish(frames).transpose(1, 2)

    def finish(self, frames: Tensor) -> Tensor:
        """Add the bias to (batch, time, channels), normalise and activate; in the format given."""
        bias = self.conv.bias
        biased = frames if bias is None else frames + bias.to(frames.dtype)
        return self.activation(self.layer_norm(biased)).to(frames.dtype)


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


def strided_convolution(frames: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve without padding.

    The first `stride` frames of all windows lie side by side, and so do the next: each part is a
    product of matrices in place, where all frames of a window would have to be copied, as windows
    overlap. Windows of single samples are copied, as they are small beside what becomes of them.

    Parameters
    ----------
    frames : Tensor of float, shape (batch, time, channels)
    weight : Tensor of float, shape (outputs, channels, kernel)
    stride : int
        At most the kernel.

    Returns
    -------
    Tensor of float, shape (batch, (time - kernel) // stride + 1, outputs), contiguous
    """
    dtype = _dtype(frames)
    taps = weight.to(dtype).permute(2, 1, 0).contiguous()
    return _Strided.apply(frames.to(dtype).contiguous(), taps, stride)


class _Strided(torch.autograd.Function):
    """Of contiguous frames (batch, time, channels) and taps (kernel, channels, outputs)."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, taps: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(frames, taps)
        ctx.stride = stride
        batch, time, channels = frames.shape
        windows = (time - len(taps)) // stride + 1
        found = frames.new_empty(batch, windows, taps.shape[2])
        if channels == 1:
            pairs, single = _pairs(frames, taps, stride)
            torch.bmm(pairs, _pair_matrix(taps, stride).expand(batch, -1, -1), out=_in_pairs(found))
            if windows % PAIR:
                found[:, -1] = single @ taps.flatten(0, 1)
            return found
        for place, (part, matrix) in enumerate(_parts(frames, taps, stride)):
            matrix = matrix.expand(batch, -1, -1)
            if place:
                found.baddbmm_(part, matrix)
            else:
                torch.bmm(part, matrix, out=found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        frames, taps = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_frames = of_taps = None
        if ctx.needs_input_grad[0]:
            of_frames = _gradient_of_frames(gradient, taps, ctx.stride, frames.shape[1])
        if ctx.needs_input_grad[1]:
            of_taps = _gradient_of_taps(gradient, frames, taps, ctx.stride)
        return of_frames, of_taps, None


def _gradient_of_frames(gradient: Tensor, taps: Tensor, stride: int, time: int) -> Tensor:
    if taps.shape[1] == 1:
        # Nobody trains a waveform, so this need not be fast.
        samples = conv_transpose1d(gradient.transpose(1, 2), taps.permute(2, 1, 0), stride=stride)
        return pad(samples, (0, time - samples.shape[2])).transpose(1, 2)
    frames = gradient.new_empty(len(gradient), time, taps.shape[1])
    # The first parts of windows, then what belongs to no window.
    frames[:, gradient.shape[1] * stride :] = 0
    for place, (part, matrix) in enumerate(_parts(frames, taps, stride)):
        matrix = matrix.T.expand(len(frames), -1, -1)
        if place:
            part.baddbmm_(gradient, matrix)
        else:
            torch.bmm(gradient, matrix, out=part)
    return frames


def _gradient_of_taps(gradient: Tensor, frames: Tensor, taps: Tensor, stride: int) -> Tensor:
    if taps.shape[1] == 1:
        pairs, single = _pairs(frames, taps, stride)
        kernel, _, outputs = taps.shape
        matrix = torch.bmm(pairs.transpose(1, 2), _in_pairs(gradient)).sum(dim=0)
        matrix = matrix.unflatten(1, (PAIR, outputs))
        found = sum(matrix[i * stride : i * stride + kernel, i] for i in range(PAIR))
        if gradient.shape[1] % PAIR:
            found = found + single.T @ gradient[:, -1]
    else:
        found = torch.cat(
            [
                torch.bmm(part.transpose(1, 2), gradient).sum(dim=0)
                for part, _ in _parts(frames, taps, stride)
            ]
        )
    return found.view_as(taps)


def _parts(frames: Tensor, taps: Tensor, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of `stride` frames of all windows, views (batch, windows, size), each with its matrix."""
    batch, time, size = frames.shape
    windows = (time - len(taps)) // stride + 1
    for first in range(0, len(taps), stride):
        some = taps[first : first + stride].flatten(0, 1)
        shape, strides = (batch, windows, len(some)), (time * size, stride * size, 1)
        yield frames.as_strided(shape, strides, frames.storage_offset() + first * size), some


def _pairs(samples: Tensor, taps: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Windows of pairs of outputs, shape (batch, pairs, size), and the last output's own."""
    samples = samples.squeeze(2)
    kernel = len(taps)
    length = kernel + (PAIR - 1) * stride
    windows = (samples.shape[1] - kernel) // stride + 1
    pairs = samples.new_zeros(len(samples), windows // PAIR, length + -length % ALIGNED)
    if windows >= PAIR:
        pairs[..., :length] = samples.unfold(1, length, PAIR * stride)[:, : windows // PAIR]
    last = (windows - 1) * stride
    return pairs, samples[:, last : last + kernel]


def _pair_matrix(taps: Tensor, stride: int) -> Tensor:
    """From a window of a pair to its outputs."""
    kernel, _, outputs = taps.shape
    length = kernel + (PAIR - 1) * stride
    matrix = taps.new_zeros(length + -length % ALIGNED, PAIR, outputs)
    for i in range(PAIR):
        matrix[i * stride : i * stride + kernel, i] = taps.squeeze(1)
    return matrix.flatten(1)


def _in_pairs(outputs: Tensor) -> Tensor:
    """A view (batch, pairs, 2 * size) of (batch, time, size); of an odd number the last is left out."""
    batch, time, size = outputs.shape
    shape, strides = (batch, time // PAIR, PAIR * size), (time * size, PAIR * size, 1)
    return outputs.as_strided(shape, strides, outputs.storage_offset())


class _Grouped(torch.autograd.Function):
    """One group at a time, so that little memory is taken by windows."""

    @staticmethod
    def forward(ctx: Any, channels: Tensor, weight: Tensor, groups: int, padding: int) -> Tensor:
        ctx.save_for_backward(channels, weight)
        ctx.groups, ctx.padding = groups, padding
        return _correlate(channels, weight, groups, padding)

    @staticmethod
    @once_differentiable
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
    padded = pad(channels, (padding, padding + -outputs % BLOCK))
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
    """Let the convolutions of `backbone` that gain by it be products; weights stay in place."""
    for part in list(backbone.modules()):
        if isinstance(part, _WeightNorm):
            part.__class__ = PlainWeightNorm
        elif isinstance(part, nn.Conv1d):
            kind = _kind(part)
            if kind is not None:
                part.__class__ = _mixed(kind, type(part))
    for part in list(backbone.modules()):
        conv, norm = getattr(part, "conv", None), getattr(part, "layer_norm", None)
        if isinstance(conv, Strided) and isinstance(norm, nn.LayerNorm):
            part.__class__ = _mixed(Normed, type(part))


@cache
def _mixed(kind: type, base: type) -> type:
    """One class for all parts of one: torch's compiler takes another for other code."""
    return type(f"{kind.__name__}{base.__name__}", (kind, base), {})


def _kind(part: nn.Conv1d) -> type | None:
    (kernel,), (stride,) = part.kernel_size, part.stride
    plain = part.dilation == (1,) and part.padding_mode == "zeros"
    if not plain or not isinstance(part.padding, tuple) or not 1 < kernel >= stride:
        return None
    (padding,) = part.padding
    if part.groups == 1:
        return None if padding else Strided
    if part.groups == part.in_channels:
        # Windows of single channels are too short.
        return None
    return Grouped if stride == 1 and padding < kernel else None
