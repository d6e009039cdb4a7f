"""A classifier on what a frozen encoder says on average over time, and how that is computed."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.layers import WeightedSum

BATCH_S = 120  # padded seconds at a time
PIECE_S = 30  # longer utterances are heard in equal pieces


class MeansNet(nn.Module):
    """Mixture of depths and head of a `SpeechNet` with mean pooling; the modules are shared.

    Parameters
    ----------
    layers : WeightedSum or None
        None: the encoder's output is heard.
    head : nn.Module
    """

    def __init__(self, layers: WeightedSum | None, head: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.head = head

    def forward(self, means: Tensor) -> Tensor:
        """Logits, shape (batch, n_classes), of layer means (batch, depths + 1, size)."""
        if self.layers is None:
            return self.head(means[:, -1])
        return self.head(self.layers(means[:, :-1].unbind(dim=1)))


@torch.inference_mode()
def layer_means(
    encoder: SpeechEncoder, front_end: FrontEnd, audio: AudioStore, utterance_ids: list[str]
) -> NDArray[np.float32]:
    """Mean over time at every depth of a frozen encoder, and of its output.

    Parameters
    ----------
    encoder : SpeechEncoder
    front_end : FrontEnd
    audio : AudioStore
    utterance_ids : list of str, length n

    Returns
    -------
    ndarray of float32, shape (n, depths + 1, size)
    """
    encoder.eval()
    where = next(encoder.parameters()).device
    pieces = _pieces(audio, utterance_ids)
    sums = np.zeros((len(utterance_ids), encoder.depth + 1, encoder.output_size), np.float64)
    frames = np.zeros(len(utterance_ids))
    with tqdm(total=len(pieces), desc="layer means", unit="utt", mininterval=1.0) as progress:
        for batch in _batches(pieces):
            names = [utterance_ids[row] for row, _, _ in batch]
            items = [
                front_end(audio.samples(name)[first:end])
                for name, (_, first, end) in zip(names, batch, strict=True)
            ]
            lengths = torch.tensor([len(item) for item in items])
            mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
            inputs = pad_sequence(items, batch_first=True).to(where)
            states, last, frame_mask = encoder.all_states(inputs, mask.to(where))
            weights = frame_mask.float()
            for depth, state in enumerate([*states, last]):
                total = torch.einsum("bt,bth->bh", weights, state.float()).cpu().numpy()
                for (row, _, _), value in zip(batch, total, strict=True):
                    sums[row, depth] += value
            for (row, _, _), count in zip(batch, weights.sum(dim=1).tolist(), strict=True):
                frames[row] += count
            progress.update(len(batch))
    return (sums / frames[:, None, None]).astype(np.float32)


def _pieces(audio: AudioStore, utterance_ids: list[str]) -> list[tuple[int, int, int]]:
    """Row, first and end sample of all pieces, longest first."""
    pieces = []
    for row, name in enumerate(utterance_ids):
        n = round(audio.seconds(name) * SAMPLE_RATE)
        count = math.ceil(n / (PIECE_S * SAMPLE_RATE))
        edges = np.linspace(0, n, max(1, count) + 1).round().astype(int)
        pieces += [(row, int(first), int(end)) for first, end in pairwise(edges)]
    return sorted(pieces, key=lambda piece: piece[1] - piece[2])


def _batches(pieces: list[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    batches: list[list[tuple[int, int, int]]] = []
    for piece in pieces:
        longest = (batches[-1][0][2] - batches[-1][0][1]) if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > BATCH_S * SAMPLE_RATE:
            batches.append([])
        batches[-1].append(piece)
    return batches
