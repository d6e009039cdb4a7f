"""What of an utterance a model is given: nothing at all, the whole, or pieces cut at pauses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from serflow.audio import SAMPLE_RATE

Samples = NDArray[np.float32]

MIN_S = 0.1  # less cannot hold a word
# dBFS of the loudest 25 ms. At -60, quiet speech was lost (bench_voice.py).
SILENCE_DB = -80.0
LEVEL_FRAME = SAMPLE_RATE // 40
# Steady hums, some of which the voice detector takes for voices: no voice of bench_voice.py, however
# altered, has levels within 4 dB of each other. Of half a second or more: a vowel may be steady.
STEADY_DB, MIN_STEADY_S = 2.0, 0.5

# Canary was trained on utterances of up to 40 s.
MIN_PIECE_S, MAX_PIECE_S = 20, 30
PAUSE, HOP = SAMPLE_RATE // 5, SAMPLE_RATE // 100


def level_db(samples: Samples) -> float:
    """RMS level of the loudest 25 ms, dBFS."""
    frames = np.pad(samples, (0, -len(samples) % LEVEL_FRAME)).reshape(-1, LEVEL_FRAME)
    energy = np.einsum("ij,ij->i", frames, frames) / LEVEL_FRAME
    return 10 * math.log10(float(energy.max()) + 1e-12)


def spread_db(samples: Samples) -> float:
    """From the 5 % quietest to the 5 % loudest 25 ms, dB; an offset does not count."""
    frames = samples[: len(samples) // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    frames = frames - samples.mean()
    levels = 10 * np.log10(np.einsum("ij,ij->i", frames, frames) / LEVEL_FRAME + 1e-12)
    return float(np.subtract(*np.quantile(levels, [0.95, 0.05])))


def unfit(samples: Samples) -> tuple[str, str] | None:
    """Status and note of an utterance that no model should see, or None.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    """
    if not len(samples):
        return "empty", "no samples"
    if not np.isfinite(samples).all():
        return "error", "NaN or infinite samples"
    if len(samples) < MIN_S * SAMPLE_RATE:
        return "short", f"{1000 * len(samples) / SAMPLE_RATE:.0f} ms"
    level = level_db(samples)
    if level < SILENCE_DB:
        return "silence", f"{level:.0f} dBFS"
    if len(samples) >= MIN_STEADY_S * SAMPLE_RATE:
        spread = spread_db(samples)
        if spread < STEADY_DB:
            return "silence", f"a steady sound, within {spread:.1f} dB"
    return None


def cut_long(samples: Samples) -> list[Samples]:
    """Pieces of at most 30 s, cut at the quietest 200 ms between 20 and 30 s.

    The last piece is never a scrap: it has at least 5 s.
    """
    pieces = []
    tail = (MAX_PIECE_S - MIN_PIECE_S) * SAMPLE_RATE // 2
    while len(samples) > MAX_PIECE_S * SAMPLE_RATE:
        first = MIN_PIECE_S * SAMPLE_RATE
        last = min(MAX_PIECE_S * SAMPLE_RATE, len(samples) - tail)
        energy = np.cumsum(np.square(samples[first:last], dtype=np.float64))
        starts = np.arange(0, len(energy) - PAUSE, HOP)
        quietest = starts[np.argmin(energy[starts + PAUSE] - energy[starts])]
        cut = first + int(quietest) + PAUSE // 2
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]
