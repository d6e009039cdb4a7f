"""One table of transcripts per corpus: from its shards, or from the corpus's own texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from serflow.audio import DIGITAL_SILENCE, NO_SAMPLES
from serflow.errors import UserError, name_some


def join(
    utterances: pd.DataFrame,
    skipped: pd.DataFrame,
    shards: Sequence[tuple[pd.DataFrame, Mapping[str, Any]]],
    asr: str,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Exactly one row for every utterance of the corpus, whatever became of its audio.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES`; those without audio get an empty transcript that says so.
    skipped : DataFrame
        `tables.SKIPPED`: those of which no audio is stored. They come last; status 'silence' or
        'empty' where the file is sound and there is nothing in it, otherwise 'error'.
    shards : sequence of (DataFrame, mapping)
        `tables.TRANSCRIPTS` and the facts of each job.
    asr : str
        Name of the transcription.

    Returns
    -------
    rows : DataFrame
        `tables.TRANSCRIPTS`.
    facts : dict
        `shards`: the facts of every job, in their order.

    Raises
    ------
    UserError
        An utterance with audio has no transcript.
    """
    mute = utterances.loc[utterances["audio_digest"].isna(), "utterance_id"]
    blank = pd.DataFrame(
        {"utterance_id": mute, "text": "", "status": "empty", "note": "no audio", "asr": asr}
    )
    lost = skipped[["utterance_id", "reason"]].rename(columns={"reason": "note"})
    status = np.select(
        [lost["note"].str.contains(DIGITAL_SILENCE), lost["note"].str.contains(NO_SAMPLES)],
        ["silence", "empty"],
        "error",
    )
    lost = lost.assign(text="", status=status, asr=asr)
    rows = pd.concat([*(rows for rows, _ in shards), blank, lost]).set_index("utterance_id")
    names = [*utterances["utterance_id"], *skipped["utterance_id"]]
    missing = sorted(set(names) - set(rows.index))
    if missing:
        raise UserError(
            f"{len(missing)} utterances have no transcript: {name_some(missing)}. Remove the "
            "folder of this transcription under results/corpora, and run again."
        )
    facts = {"shards": [dict(facts) for _, facts in shards]}
    return rows.loc[names].reset_index(), facts


def reference(utterances: pd.DataFrame, asr: str, corpus: str) -> pd.DataFrame:
    """The corpus's own texts as transcripts.

    Parameters
    ----------
    utterances : DataFrame
        `tables.UTTERANCES`.
    asr, corpus : str

    Returns
    -------
    DataFrame
        `tables.TRANSCRIPTS`; status 'empty' where the corpus has no text.

    Raises
    ------
    UserError
        No utterance has a text.
    """
    texts = utterances["text"].fillna("").str.strip()
    if not texts.astype(bool).any():
        raise UserError(
            f"asr.{asr}: corpus {corpus} has no transcripts of its own; name a recogniser instead, "
            "or give the corpus the column `text`"
        )
    return pd.DataFrame(
        {
            "utterance_id": utterances["utterance_id"],
            "text": texts,
            "status": ["ok" if text else "empty" for text in texts],
            "note": "",
            "asr": asr,
        }
    )
