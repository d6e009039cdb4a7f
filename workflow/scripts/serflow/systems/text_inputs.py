"""Tokenised texts as the input of a network."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from serflow.batching import Draw


class TokenInputs:
    """Tokenised texts as network inputs; meets `training.Inputs`.

    Parameters
    ----------
    rows : list of list of int
        Token ids; no row is empty.
    pad_id : int
    """

    varies = False

    def __init__(self, rows: list[list[int]], pad_id: int) -> None:
        self._rows = [torch.tensor(row) for row in rows]
        self._pad_id = pad_id

    def __len__(self) -> int:
        return len(self._rows)

    def lengths(self, draws: list[Draw]) -> NDArray[np.float64]:
        """Tokens of each example, shape (n,)."""
        return np.array([len(self._rows[draw.row]) for draw in draws], dtype=np.float64)

    def item(self, draw: Draw) -> Tensor:
        """Token ids of one example, shape (tokens,)."""
        return self._rows[draw.row]

    def collate(self, items: list[Tensor]) -> dict[str, Tensor]:
        """Right-pad: inputs (batch, tokens) of int64 and mask (batch, tokens) of bool.

        The right side whatever the tokenizer prefers: models that classify at the first token need
        it, and causal ones find their last token by the mask.
        """
        lengths = torch.tensor([len(item) for item in items])
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        padded = pad_sequence(items, batch_first=True, padding_value=self._pad_id)
        return {"inputs": padded, "mask": mask}

    def digest(self) -> str:
        """Digest of all token ids."""
        ids = json.dumps([row.tolist() for row in self._rows])
        return hashlib.sha256(ids.encode()).hexdigest()
