"""Word and character error rates of transcriptions, in all and by group of utterances."""

from __future__ import annotations

from typing import Any

import pandas as pd

from serflow.evaluation.rows import Evaluation
from serflow.word_errors import ERROR_RATES, error_counts, error_rates

# What errors are told by, beside all: column of the utterances -> its name in the scores.
ERRORS_BY = {"split": "split", "corpus": "corpus", "label": "emotion", "gender": "gender"}


def score_transcripts(
    evaluation: Evaluation, transcripts: pd.DataFrame, seed: int
) -> list[dict[str, Any]]:
    """WER and CER of each transcription, where the corpus gives reference texts.

    Parameters
    ----------
    evaluation : Evaluation
    transcripts : DataFrame
        `tables.TRANSCRIPTS`; a missing language counts as English.
    seed : int
        For the rows: that of a system.

    Returns
    -------
    list of dict
        Of all utterances (`label` empty), then by split, corpus, emotion and gender (`label`
        'gender female'), where there is more than one.
    """
    known = evaluation.utterances.reindex(columns=["text", "language", *ERRORS_BY])
    known = known.rename(columns={"text": "reference"})
    joined = transcripts.join(known, on="utterance_id", how="inner")
    joined = joined[joined["reference"].fillna("").str.strip() != ""].reset_index(drop=True)
    rows = []
    for asr, part in joined.groupby("asr", sort=False):
        counts = error_counts(part["reference"], part["text"], part["language"].fillna("en"))
        counts.index = part.index
        parts = [("", part)]
        for column, name in ERRORS_BY.items():
            groups = list(part.groupby(column))
            if len(groups) > 1:
                parts += [(f"{name} {value}", chosen) for value, chosen in groups]
        for label, chosen in parts:
            rates = error_rates(
                counts.loc[chosen.index],
                seed=evaluation.seed,
                clusters=evaluation.speakers(chosen["utterance_id"]),
                resamples=evaluation.resamples,
            )
            for metric, found in rates.items():
                definition = ERROR_RATES[metric][1]
                rows.append(
                    evaluation.row(
                        seed, asr, "transcribed", "all", metric, [label, ""], definition, found
                    )
                )
    return rows
