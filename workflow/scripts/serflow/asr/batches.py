"""Which utterances are transcribed together, and what happens when a batch fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from serflow.asr.engine import Transcriber
from serflow.asr.segments import MAX_PIECE_S, MIN_PIECE_S, Samples

Key = TypeVar("Key")


def batches_by_seconds(lengths: Sequence[tuple[Key, float]], budget: float) -> list[list[Key]]:
    """Batches of like length, longest first, of at most `budget` padded seconds.

    Longest first: what does not fit the memory fails at once, and not after hours.

    Parameters
    ----------
    lengths : sequence of (key, seconds)
        Equal lengths keep their order. An utterance that will be cut counts all its pieces.
    budget : float
        A longer single utterance is a batch of its own.
    """
    batches: list[list[Key]] = []
    longest = rows = 0.0
    for key, seconds in sorted(lengths, key=lambda item: -item[1]):
        pieces = 1 if seconds <= MAX_PIECE_S else seconds // MIN_PIECE_S
        if not batches or (rows + pieces) * longest > budget:
            batches.append([])
            longest, rows = min(seconds, MAX_PIECE_S), 0.0
        batches[-1].append(key)
        rows += pieces
    return batches


def transcribe_halving(engine: Transcriber, batch: Sequence[Samples]) -> list[str | Exception]:
    """One text for each input; an input that fails by itself gives its exception.

    A batch that fails (out of memory, or one bad input) is halved, so that a fault costs only the
    inputs that have it.

    Raises
    ------
    RuntimeError
        CUDA has failed for good: nothing that follows in this process would run.
    """
    try:
        texts = engine.transcribe(batch)
        if len(texts) != len(batch):
            raise RuntimeError(f"{len(batch)} inputs gave {len(texts)} texts")
        return list(texts)
    except Exception as error:
        if "CUDA error" in str(error):
            raise
        failure = error.with_traceback(None)  # its frames hold the tensors of the failed batch
    if len(batch) == 1:
        return [failure]
    half = len(batch) // 2
    return transcribe_halving(engine, batch[:half]) + transcribe_halving(engine, batch[half:])
