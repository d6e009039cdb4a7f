"""Decoded audio: random access to one packed, memory-mapped store per corpus."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from serflow.errors import UserError, name_some
from serflow.tables import AUDIO_INDEX

SAMPLE_RATE = 16_000
FULL_SCALE = 32_768
# Why nothing of a file is stored whose format is sound: what its reason ends with, or holds.
NO_SAMPLES, DIGITAL_SILENCE = "holds no samples", "digital silence"


class AudioStore:
    """Random access to the decoded utterances of one or more corpora.

    The files are mapped at the first access, in each process anew: the store pickles into data
    loader workers at the cost of its index, and all processes share the system's page cache.

    Parameters
    ----------
    stores : iterable of (samples file, index file)
        As `serflow.packing.pack` writes them.

    Raises
    ------
    UserError
        An utterance is in two stores, or a samples file is not of the length its index says.
    """

    def __init__(self, stores: Iterable[tuple[str | Path, str | Path]]) -> None:
        self._files: list[Path] = []
        self._maps: dict[int, np.ndarray] = {}
        self._places: dict[str, tuple[int, int, int]] = {}
        for number, (samples_path, index_path) in enumerate(stores):
            self._files.append(Path(samples_path))
            index = AUDIO_INDEX.read(index_path)
            twice = index.loc[index["utterance_id"].isin(self._places), "utterance_id"]
            if len(twice):
                raise UserError(
                    f"{len(twice)} utterances are in {index_path} and in an earlier store: "
                    f"{name_some(twice)}. Utterance ids must differ between corpora."
                )
            expected = 2 * int((index["offset"] + index["samples"]).max()) if len(index) else 0
            try:
                found = self._files[-1].stat().st_size
            except OSError as error:
                raise UserError(f"{samples_path}: {error.strerror}") from None
            if found != expected:
                raise UserError(
                    f"{samples_path} holds {found} bytes, its index {index_path} says {expected}: "
                    "they are not of one run. Delete both and run again."
                )
            rows = index.itertuples(index=False)
            self._places.update((r.utterance_id, (number, r.offset, r.samples)) for r in rows)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._places

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def _place(self, utterance_id: str) -> tuple[int, int, int]:
        try:
            return self._places[utterance_id]
        except KeyError:
            raise UserError(
                f"utterance '{utterance_id}' is not in {name_some(self._files)}"
            ) from None

    def samples(self, utterance_id: str) -> np.ndarray:
        """float32 samples in [-1, 1], mono, 16 kHz, shape (n,); a copy that may be changed.

        Raises
        ------
        UserError
            No store has the utterance.
        """
        number, offset, length = self._place(utterance_id)
        if number not in self._maps:
            self._maps[number] = np.asarray(np.memmap(self._files[number], dtype="<i2", mode="r"))
        return self._maps[number][offset : offset + length] * np.float32(1 / FULL_SCALE)

    def seconds(self, utterance_id: str) -> float:
        """Duration in seconds, without touching the samples.

        Raises
        ------
        UserError
            No store has the utterance.
        """
        return self._place(utterance_id)[2] / SAMPLE_RATE
