"""Noises and room impulse responses to mix into speech, read from packed stores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from serflow.audio import AudioStore
from serflow.digests import canonical, digest
from serflow.errors import UserError, name_some


class Sounds:
    """The sounds of one corpus, by kind.

    Parameters
    ----------
    corpus : str
        Its name, for messages.
    audio : AudioStore
    utterances : DataFrame
        `tables.UTTERANCES`; `label_raw` is the kind.
    """

    def __init__(self, corpus: str, audio: AudioStore, utterances: pd.DataFrame) -> None:
        self.corpus = corpus
        self.audio = audio
        rows = utterances.loc[utterances["audio_digest"].notna()].sort_values("utterance_id")
        self._rows = rows[["utterance_id", "label_raw", "audio_digest"]]

    def names(self, categories: list[str]) -> list[str]:
        """Ids of the sounds of some kinds, sorted.

        Raises
        ------
        UserError
            There is none of a kind.
        """
        found = set(self._rows["label_raw"].dropna())
        missing = sorted(set(categories) - found)
        if missing:
            raise UserError(
                f"augmentation: corpus '{self.corpus}' has no sounds of kind {name_some(missing)}; "
                f"it has {', '.join(sorted(found)) or 'none'}"
            )
        return self._rows.loc[self._rows["label_raw"].isin(categories), "utterance_id"].tolist()

    def samples(self, name: str) -> np.ndarray:
        """float32 samples in [-1, 1], 16 kHz, shape (n,)."""
        return self.audio.samples(name)

    def digest(self) -> str:
        """Digest of all sounds and their kinds."""
        return digest(canonical(self._rows.fillna("").to_numpy().tolist()))
