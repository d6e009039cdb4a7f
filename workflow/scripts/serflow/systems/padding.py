"""Sequences of different lengths as one tensor."""

from __future__ import annotations

import torch
from torch import Tensor


def right_padded(items: list[Tensor], time: int, filler: float = 0) -> dict[str, Tensor]:
    """What networks are given of sequences.

    Parameters
    ----------
    items : list of Tensor, shape (time, ...)
    time : int
        Length to pad to; none is longer.
    filler : float

    Returns
    -------
    dict of str to Tensor
        `inputs`, shape (batch, time, ...), and `mask` of bool, shape (batch, time): True where real.
    """
    inputs = items[0].new_full((len(items), time, *items[0].shape[1:]), filler)
    for row, item in zip(inputs, items, strict=True):
        row[: len(item)] = item
    lengths = torch.tensor([len(item) for item in items])
    return {"inputs": inputs, "mask": torch.arange(time) < lengths.unsqueeze(1)}
