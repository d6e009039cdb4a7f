"""Word and character errors of transcripts against references, by jiwer after normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import jiwer
import pandas as pd
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

NORMALISATION = (
    "both texts after Whisper's normalisers (whisper_normalizer): for English spelling, contractions, "
    "numbers and fillers; for other languages lower case without punctuation"
)


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
