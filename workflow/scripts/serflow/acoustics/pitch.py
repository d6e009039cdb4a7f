"""Pitch by autocorrelation, tracked along the utterance."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft

from serflow.acoustics.frames import N_FFT, TINY, Array, Contours, frame_window
from serflow.audio import SAMPLE_RATE

F0_MIN, F0_MAX = 65.0, 500.0  # Hz
F0_REFERENCE = 55.0  # Hz, zero of the semitone scale
PITCH_CANDIDATES = 6
OCTAVE_COST = 0.02  # per octave below F0_MAX, against sub-harmonics
JUMP_COST = 0.5  # per octave between neighbouring frames, at most one octave


def pitch_contours(power: Array) -> Contours:
    """Pitch by autocorrelation, tracked along the utterance.

    The autocorrelation of each frame, divided by that of the window (Boersma
    1993), offers its highest peaks as candidates; the smoothest strong path
    through them is the pitch.  ``f0`` (semitones above 55 Hz), ``strength``
    (autocorrelation at the pitch period, 0 to 1) and ``hnr``
    (harmonics-to-noise ratio, dB) are given for every frame, voiced or not.
    """
    shortest, longest = int(SAMPLE_RATE / F0_MAX), int(SAMPLE_RATE / F0_MIN)
    lags = np.arange(shortest, longest + 1)
    correlation = irfft(power, N_FFT)[:, : longest + 2]
    correlation /= (correlation[:, :1] + TINY) * _window_autocorrelation()[: longest + 2]

    height = correlation[:, lags]
    is_peak = (height >= correlation[:, lags - 1]) & (height >= correlation[:, lags + 1])
    score = np.where(is_peak, height - OCTAVE_COST * np.log2(lags / shortest), -1.0)
    best = np.argpartition(-score, PITCH_CANDIDATES, axis=1)[:, :PITCH_CANDIDATES]
    score = np.take_along_axis(score, best, axis=1)
    octave = np.log2(SAMPLE_RATE / _refined_lag(correlation, lags[best]))

    chosen = np.arange(len(power)), _smoothest_path(score, octave)
    strength = np.take_along_axis(height, best, axis=1)[chosen]
    strength = np.where(score[chosen] < 0, 0.0, np.clip(strength, 0.0, 0.9999))
    return {
        "f0": 12 * (octave[chosen] - np.log2(F0_REFERENCE)),
        "hnr": 10 * np.log10((strength + 1e-3) / (1 - strength)),
        "strength": strength,
    }


def _refined_lag(correlation: Array, lag: NDArray[np.intp]) -> Array:
    """Place each peak between the samples with a parabola through three points."""
    rows = np.arange(len(lag))[:, None]
    before, peak, after = (correlation[rows, lag + k] for k in (-1, 0, 1))
    curvature = np.minimum(before - 2 * peak + after, -1e-6)
    return lag + np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)


def _smoothest_path(score: Array, octave: Array) -> NDArray[np.intp]:
    """Viterbi search for the candidate of each frame; jumps cost less in weak frames."""
    weight = np.clip(score.max(axis=1), 0, 1)
    jump = np.minimum(np.abs(octave[1:, None, :] - octave[:-1, :, None]), 1.0)
    jump *= JUMP_COST * np.minimum(weight[1:], weight[:-1])[:, None, None]
    candidates = np.arange(score.shape[1])
    previous = np.zeros(score.shape, dtype=np.intp)
    total = score[0]
    for t in range(1, len(score)):
        options = total[:, None] - jump[t - 1]
        previous[t] = options.argmax(axis=0)
        total = options[previous[t], candidates] + score[t]

    path = np.empty(len(score), dtype=np.intp)
    path[-1] = total.argmax()
    for t in range(len(score) - 1, 0, -1):
        path[t - 1] = previous[t, path[t]]
    return path


@functools.cache
def _window_autocorrelation() -> Array:
    correlation = irfft(np.abs(rfft(frame_window(), 2 * N_FFT)) ** 2)
    return (correlation / correlation[0]).astype(np.float32)
