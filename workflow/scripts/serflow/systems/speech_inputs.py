"""Speech as network inputs: whole utterances, random chunks, and what a frozen encoder said of them."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serflow.audio import AudioStore
from serflow.augmenter import Augmenter
from serflow.batching import Draw, rounded_up
from serflow.layer_means import Rows
from serflow.nets.encoders import FrontEnd
from serflow.systems.padding import right_padded

# Features of whole utterances are the same in every epoch and are kept up to this many bytes.
CACHE_BYTES = 2 << 30

DIGEST_SAMPLES = 64


class Spans:
    """Stretches of audio as network inputs; meets `training.interface.Inputs`.

    Parameters
    ----------
    audio : AudioStore
    spans : list of (utterance id, first sample, end sample)
    front_end : FrontEnd
    augmenter : Augmenter, optional
        For training rows.
    """

    def __init__(
        self,
        audio: AudioStore,
        spans: list[tuple[str, int, int]],
        front_end: FrontEnd,
        augmenter: Augmenter | None = None,
    ) -> None:
        self.varies = augmenter is not None
        self._audio = audio
        self._spans = spans
        self._front_end = front_end
        self._augmenter = augmenter
        self._kept: dict[int, Tensor] = {}
        self._room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self._spans)

    def span(self, draw: Draw) -> tuple[str, int, int]:
        """Utterance id, first and end sample of an example."""
        return self._spans[draw.row]

    def lengths(self, draws: list[Draw]) -> NDArray[np.float64]:
        """Samples of each example, shape (n,)."""
        lengths = [end - first for _, first, end in map(self.span, draws)]
        if self._augmenter:
            lengths = [
                self._augmenter.length(n, draw) for n, draw in zip(lengths, draws, strict=True)
            ]
        return np.array(lengths, dtype=np.float64)

    def item(self, draw: Draw) -> Tensor:
        """Features of one example, shape (time,) or (time, features)."""
        if draw.row in self._kept:
            return self._kept[draw.row]
        name, first, end = self.span(draw)
        samples = self._audio.samples(name)[first:end]
        if self._augmenter:
            samples = self._augmenter(samples, draw)
        features = self._front_end(samples)
        size = features.numel() * features.element_size()
        if self._front_end.costly and not self.varies and size <= self._room:
            self._room -= size
            self._kept[draw.row] = features
        return features

    def collate(self, items: list[Tensor], rounded: bool = False) -> dict[str, Tensor]:
        """Right-pad with zeros: inputs (batch, time, ...) and mask (batch, time) of bool."""
        longest = max(map(len, items))
        time = rounded_up(longest) if rounded and not self._front_end.limited else longest
        return right_padded(items, time)

    def digest(self) -> str:
        """Digest of the spans, of some samples of each, and of what is mixed in."""
        state = hashlib.sha256(self._augmenter.digest().encode() if self._augmenter else b"")
        for name, first, end in self._spans:
            middle = (first + end) // 2
            some = self._audio.samples(name)[middle : middle + DIGEST_SAMPLES]
            state.update(f"{name} {first} {end}".encode())
            state.update(np.ascontiguousarray(some).tobytes())
        return state.hexdigest()


class Crops(Spans):
    """Random chunks of utterances, a function of (seed, epoch, position) alone.

    Parameters
    ----------
    audio : AudioStore
    spans : list of (utterance id, 0, samples)
    front_end : FrontEnd
    min_samples, max_samples : int
        A chunk's length is drawn uniformly between them, its place uniformly in the utterance; a
        shorter utterance is taken whole.
    seed : int
    augmenter : Augmenter, optional
        What it does to a chunk does not count for the chunk's length.

    References
    ----------
    TalTech, Odyssey 2024, section 3.1: "random 2 to 4 second chunks".
    """

    def __init__(
        self,
        audio: AudioStore,
        spans: list[tuple[str, int, int]],
        front_end: FrontEnd,
        min_samples: int,
        max_samples: int,
        seed: int,
        augmenter: Augmenter | None = None,
    ) -> None:
        super().__init__(audio, spans, front_end, augmenter)
        self.varies = True
        self._range = (min_samples, max_samples)
        self._seed = seed

    def span(self, draw: Draw) -> tuple[str, int, int]:
        """Utterance id, first and end sample of the example's chunk."""
        name, _, n = super().span(draw)
        rng = np.random.default_rng([self._seed, draw.epoch, draw.position])
        length = int(rng.integers(self._range[0], self._range[1], endpoint=True))
        if length >= n:
            return name, 0, n
        first = int(rng.integers(0, n - length, endpoint=True))
        return name, first, first + length


class Means:
    """Layer means as network inputs; meets `training.interface.Inputs`.

    Parameters
    ----------
    rows : Rows
    """

    varies = False

    def __init__(self, rows: Rows) -> None:
        self._rows = torch.from_numpy(rows.values)
        self._samples = rows.samples.astype(np.float64)

    def __len__(self) -> int:
        return len(self._rows)

    def lengths(self, draws: list[Draw]) -> NDArray[np.float64]:
        """Samples of each example's utterance, shape (n,)."""
        return self._samples[[draw.row for draw in draws]]

    def item(self, draw: Draw) -> Tensor:
        """Layer means of one example."""
        return self._rows[draw.row]

    def collate(self, items: list[Tensor], rounded: bool = False) -> dict[str, Tensor]:
        """Stack: means (batch, depths + 1, size)."""
        return {"means": torch.stack(items)}

    def digest(self) -> str:
        """Digest of some values of each."""
        return hashlib.sha256(self._rows[:, :, :8].numpy().tobytes()).hexdigest()
