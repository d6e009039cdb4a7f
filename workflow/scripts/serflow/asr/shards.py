"""Which job transcribes which utterance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import pandas as pd

from serflow.errors import UserError, name_some

# Half an hour with canary-1b on an A100, which does 235 hours in one (Open ASR leaderboard), and
# about as much with whisper-large-v3 and half the hours.
HOURS_A_JOB, HOURS_WITHOUT_GPU = 100.0, 4.0


def shard_count(seconds: float, on_gpu: bool) -> int:
    """Jobs for so many seconds of audio, at least one.

    Parameters
    ----------
    seconds : float
    on_gpu : bool
    """
    hours = HOURS_A_JOB if on_gpu else HOURS_WITHOUT_GPU
    return max(1, math.ceil(seconds / 3600 / hours))


def shard_of(utterance_id: str, shards: int) -> int:
    """Shard of an utterance in 0 .. shards - 1, by its id alone.

    It does not move when other utterances come or go: adding one changes one shard.
    """
    digest = hashlib.sha256(utterance_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") % shards


def split(
    utterances: pd.DataFrame, corpus: str, language: str | None, shards: int
) -> Iterator[pd.DataFrame]:
    """The `tables.SHARD` of every job, sorted by utterance id.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES`; those without audio are left to `join_transcripts`.
    corpus : str
        For messages.
    language : str or None
        For all utterances; None: each one's own.
    shards : int

    Raises
    ------
    UserError
        The corpus has no audio, or an utterance no language of its own where it needs one.
    """
    rows = utterances[utterances["audio_digest"].notna()].sort_values("utterance_id")
    if rows.empty:
        raise UserError(
            f"corpus {corpus} has no audio to transcribe; its own texts are read with "
            "`asr: {NAME: {engine: reference}}`"
        )
    rows = rows.rename(columns={"duration_s": "seconds"})
    if language is not None:
        rows = rows.assign(language=language)
    mute = rows.loc[rows["language"].isna(), "utterance_id"]
    if len(mute):
        raise UserError(
            f"corpus {corpus}: {len(mute)} of {len(rows)} utterances have no language: "
            f"{name_some(mute)}. Give the corpus the column `language` (for your own table: "
            "`constants: {language: en}`), or set `language` in the study's asr."
        )
    places = [shard_of(name, shards) for name in rows["utterance_id"]]
    columns = ["utterance_id", "language", "seconds", "audio_digest"]
    for shard in range(shards):
        yield rows.loc[[place == shard for place in places], columns].reset_index(drop=True)
