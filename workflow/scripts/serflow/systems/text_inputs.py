"""Tokenised texts as the input of a network."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serflow.batching import Draw, rounded_up
from serflow.systems.padding import right_padded


class TokenInputs:
    """Tokenised texts as network inputs; meets `training.interface.Inputs`.

    Parameters
    ----------
    rows : list of list of int
        Token ids; no row is empty.
    pad_id : int
    max_tokens : int
        No row is longer.
    """

    varies = False

    def __init__(self, rows: list[list[int]], pad_id: int, max_tokens: int) -> None:
        self._rows = [torch.tensor(row) for row in rows]
        self._pad_id = pad_id
        self._max_tokens = max_tokens

    def __len__(self) -> int:
        return len(self._rows)

    def lengths(self, draws: list[Draw]) -> NDArray[np.float64]:
        """Tokens of each example, shape (n,)."""
        return np.array([len(self._rows[draw.row]) for draw in draws], dtype=np.float64)

    def item(self, draw: Draw) -> Tensor:
        """Token ids of one example, shape (tokens,)."""
        return self._rows[draw.row]

    def collate(self, items: list[Tensor], rounded: bool = False) -> dict[str, Tensor]:
        """Right-pad: inputs (batch, tokens) of int64 and mask (batch, tokens) of bool.

        The right side whatever the tokenizer prefers: models that classify at the first token need
        it, and causal ones find their last token by the mask.
        """
        longest = max(map(len, items))
        time = max(longest, min(rounded_up(longest), self._max_tokens)) if rounded else longest
        return right_padded(items, time, self._pad_id)

    def digest(self) -> str:
        """Digest of all token ids."""
        ids = json.dumps([row.tolist() for row in self._rows])
        return hashlib.sha256(ids.encode()).hexdigest()
