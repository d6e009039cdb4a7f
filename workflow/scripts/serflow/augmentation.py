"""What can be done to speech to train on more than was recorded: plain functions of arrays.

Nothing here is random; `serflow.augmenter` draws. Samples are float32 with full scale 1, shape (n,),
at 16 kHz. Silent speech, noises and responses change nothing, and no result holds a NaN.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from serflow.audio import SAMPLE_RATE

# Silence: 20 ms frames 40 dB below the loudest one, or all of them if that is below -60 dBFS.
FRAME = SAMPLE_RATE // 50
BELOW_LOUDEST, BELOW_FULL_SCALE = 1e-4, 1e-6

# A response begins with its first sample of at least this share of the largest: -20 dB (ISO 3382-1).
# The largest itself can be a reflection, as much as 8 ms late in measured rooms.
ONSET = 0.1

# Of the phase vocoder: 64 ms tell the harmonics of a low voice apart.
WINDOW = 1024

Samples = NDArray[np.float32]


def active_power(samples: Samples) -> float:
    """Mean power of the frames that are not silent; 0 where all are.

    Examples
    --------
    >>> half = np.repeat(np.float32([0.5, 0]), 16000)
    >>> active_power(half)
    0.25
    """
    whole = len(samples) // FRAME * FRAME
    frames = samples[:whole].reshape(-1, FRAME) if whole else samples[None]
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    loudest = power.max()
    if loudest < BELOW_FULL_SCALE:
        return 0.0
    # Relative alone, so that turning the samples up or down moves the result by just that.
    return float(power[power >= BELOW_LOUDEST * loudest].mean())


def place(noise: Samples, n: int, where: float, repeat: bool) -> Samples:
    """Bring a noise to `n` samples.

    Parameters
    ----------
    noise : ndarray of float32, shape (m,)
    n : int
    where : float
        In [0, 1): from the first to the last possible place. A longer noise is cut there.
    repeat : bool
        A shorter noise is repeated from end to end and begins there, else it sounds once there.
    """
    m = len(noise)
    first = int(where * (abs(m - n) + 1))
    if m >= n:
        return noise[first : first + n]
    if repeat:
        return noise[(int(where * m) + np.arange(n)) % m]
    return np.pad(noise, (first, n - m - first))


def mix(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """Add a noise of the same length, so that the active levels differ by `snr_db`.

    The speech keeps its level.
    """
    signal, disturbance = active_power(speech), active_power(noise)
    if not signal or not disturbance:
        return speech
    gain = np.sqrt(signal / disturbance * 10 ** (-snr_db / 10))
    return speech + np.float32(gain) * noise


def reverberate(speech: Samples, rir: Samples) -> Samples:
    """Convolve with a room's impulse response; length, onsets and level stay.

    The response's onset is moved to time 0, and the power over the whole is that of the dry speech.
    What rings on after the end is cut.
    """
    size = np.abs(rir)
    onset = int(np.argmax(size >= ONSET * size.max()))
    wet = fftconvolve(speech, rir)[onset : onset + len(speech)]
    before, after = (float(np.square(x, dtype=np.float64).sum()) for x in (speech, wet))
    if before == 0 or after == 0:
        return speech
    return wet * np.float32(np.sqrt(before / after))


def changed_length(n: int, factor: float) -> int:
    """Samples of `n` samples that are played `factor` times as fast."""
    return max(1, round(n / factor))


def change_speed(samples: Samples, factor: float) -> Samples:
    """Play `factor` times as fast: shorter and higher above 1, by resampling."""
    n = changed_length(len(samples), factor)
    played = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE)[:n]
    return np.pad(played, (0, n - len(played)))


def stretch(samples: Samples, rate: float) -> Samples:
    """Speak `rate` times as fast at the same pitch, by a phase vocoder."""
    import librosa  # in seconds, and most systems do without

    filled = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    changed = librosa.effects.time_stretch(filled, rate=rate, n_fft=WINDOW)
    return changed[: changed_length(len(samples), rate)]


def shift_pitch(samples: Samples, semitones: float) -> Samples:
    """Raise the pitch at the same tempo, by a phase vocoder and resampling."""
    import librosa

    filled = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    changed = librosa.effects.pitch_shift(filled, sr=SAMPLE_RATE, n_steps=semitones, n_fft=WINDOW)
    return changed[: len(samples)]


def limit(samples: Samples) -> Samples:
    """Turn the whole down to full scale where it exceeds it, as a recordist would."""
    peak = np.abs(samples).max()
    return samples / peak if peak > 1 else samples
