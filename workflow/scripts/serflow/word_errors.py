"""Word and character errors of transcripts against references, by jiwer after normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import jiwer
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from serflow.intervals import Interval
from serflow.resampling import bootstrap_sums, percentiles

NORMALISATION = (
    "both texts after Whisper's normalisers (whisper_normalizer): for English spelling, contractions, "
    "numbers and fillers; for other languages lower case without punctuation"
)

_ERRORS = "substitutions, deletions and insertions over reference {}, pooled over utterances; "
ERROR_RATES = {
    "wer": ("word", "Word error rate: " + _ERRORS.format("words") + NORMALISATION + "."),
    "cer": (
        "character",
        "Character error rate: " + _ERRORS.format("characters") + NORMALISATION + ".",
    ),
}


@lru_cache(maxsize=2**16)  # sentences of acted corpora recur, and so do the references of each ASR
def normalised(text: str, language: str) -> str:
    """A text as it is compared.

    Parameters
    ----------
    text : str
    language : str
        ISO 639 code; anything but 'en' has the basic normaliser, which keeps diacritics.

    References
    ----------
    A. Radford et al.: Robust Speech Recognition via Large-Scale Weak Supervision. ICML 2023,
    appendix C.
    """
    return " ".join(_normaliser(language == "en")(text).split())


@cache
def _normaliser(english: bool) -> Callable[[str], str]:
    return EnglishTextNormalizer() if english else BasicTextNormalizer()


def error_counts(
    references: Sequence[str], hypotheses: Sequence[str], languages: Sequence[str]
) -> pd.DataFrame:
    """Errors of each utterance; sums of them give the error rates.

    Parameters
    ----------
    references, hypotheses, languages : sequence of str, length n

    Returns
    -------
    DataFrame, shape (n, 4)
        word_errors, words, character_errors, characters: substitutions, deletions and insertions,
        and the reference's length. A reference of which the normaliser leaves nothing has no words,
        and everything heard there is inserted.

    Examples
    --------
    >>> error_counts(["Go on!", "Um."], ["go home", "no"], ["en", "en"])["word_errors"].tolist()
    [1, 1]
    """
    pairs = [
        (normalised(reference, language), normalised(hypothesis, language))
        for reference, hypothesis, language in zip(references, hypotheses, languages, strict=True)
    ]
    rows = []
    for reference, hypothesis in pairs:
        if not reference:
            words, characters = len(hypothesis.split()), len(hypothesis)
            rows.append((words, 0, characters, 0))
            continue
        word = jiwer.process_words(reference, hypothesis)
        character = jiwer.process_characters(reference, hypothesis)
        rows.append((*_errors(word), *_errors(character)))
    columns = ["word_errors", "words", "character_errors", "characters"]
    return pd.DataFrame(rows, columns=columns)


def _errors(found: jiwer.WordOutput | jiwer.CharacterOutput) -> tuple[int, int]:
    missed = found.substitutions + found.deletions
    return missed + found.insertions, missed + found.hits


def error_rates(
    counts: pd.DataFrame, *, seed: int, clusters: ArrayLike | None = None, resamples: int = 10_000
) -> dict[str, Interval]:
    """Each error rate with its percentile bootstrap interval of 95 %, over one set of resamples.

    Parameters
    ----------
    counts : DataFrame, shape (n, 4)
        As `error_counts` gives them.
    seed, clusters, resamples
        As in `serflow.intervals.bootstrap_interval`. Of one cluster there is no interval: its ends
        are NaN.

    Returns
    -------
    dict of str to Interval
        By the names of `ERROR_RATES`.
    """
    table = counts.to_numpy(dtype=float)
    lone = clusters is not None and len(set(np.asarray(clusters).tolist())) < 2
    drawn = bootstrap_sums(
        table, seed=seed, clusters=None if lone else clusters, resamples=1 if lone else resamples
    )
    found = {}
    for metric, (unit, _) in ERROR_RATES.items():
        columns = [counts.columns.get_loc(f"{unit}_errors"), counts.columns.get_loc(f"{unit}s")]
        errors, whole = table.sum(axis=0)[columns]
        ratios = drawn[:, columns[0]] / np.maximum(drawn[:, columns[1]], 1)
        low, high = (np.nan, np.nan) if lone else percentiles(ratios, 0.95)
        found[metric] = Interval(errors / max(whole, 1), low, high, len(table))
    return found
