"""The text that a model returns: special tokens taken out, and reasons to distrust it."""

from __future__ import annotations

import re
import zlib

SPECIAL = re.compile(r"<\|[^|<>]*\|>|<pad>|<unk>|⁇")

# Nobody speaks faster for a whole utterance; below half a second a rate means nothing.
MAX_WORDS_PER_SECOND, MIN_RATED_S = 7, 0.5
# Whisper's threshold for text that repeats itself (openai/whisper, decoding options).
MAX_COMPRESSION, MIN_COMPRESSED_BYTES = 2.4, 60
MAX_REPEATS, LONGEST_REPEATED = 4, 4


def clean(text: str) -> str:
    """Remove special tokens and surplus blanks."""
    return " ".join(SPECIAL.sub(" ", text).split())


def why_suspect(text: str, seconds: float) -> str:
    """Why a transcript is hardly what was said, or "".

    Parameters
    ----------
    text : str
    seconds : float
        Duration of the audio.
    """
    words = text.lower().split()
    if len(words) > MAX_WORDS_PER_SECOND * max(seconds, MIN_RATED_S):
        return f"{len(words)} words in {seconds:.1f} s"
    encoded = text.encode()
    ratio = len(encoded) / len(zlib.compress(encoded))
    if len(encoded) > MIN_COMPRESSED_BYTES and ratio > MAX_COMPRESSION:
        return f"repetitive: compresses {ratio:.1f} times"
    for size in range(1, LONGEST_REPEATED + 1):
        repeats = _most_repeats(words, size)
        if repeats > MAX_REPEATS:
            return f"the same {size} words {repeats} times running"
    return ""


def _most_repeats(words: list[str], size: int) -> int:
    """How often any run of `size` words follows itself without a break, counted with the first."""
    most = 1
    for first in range(size):
        runs = 1
        for start in range(first + size, len(words) - size + 1, size):
            same = words[start : start + size] == words[start - size : start]
            runs = runs + 1 if same else 1
            most = max(most, runs)
    return most
