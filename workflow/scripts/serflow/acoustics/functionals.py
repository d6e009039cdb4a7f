"""Acoustic functionals: one fixed-length description of a spoken utterance.

A recording is cut into 40 ms frames every 10 ms. One Fourier transform a frame gives contours (mel
bands, cepstrum, spectral shape, energy, pitch), and statistics of each contour, its functionals,
give the description. Every number depends on that one recording alone; none is normalised by
speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.signal import get_window
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from serflow.acoustics.frames import (
    FRAME_RATE,
    Array,
    Contours,
    cepstral_contours,
    decibel,
    energy_contours,
    mel_contours,
    mel_filters,
    power_spectrogram,
    shape_contours,
)
from serflow.acoustics.pitch import pitch_contours
from serflow.acoustics.statistics import (
    Features,
    contour_functionals,
    local_slope,
    named,
    slope_functionals,
)
from serflow.audio import AudioStore

Mask = NDArray[np.bool_]

SPEECH_RANGE = 40.0  # dB below the loudest frame that still count as speech
VOICED_RANGE = 30.0  # dB below the loudest frame that can still be voiced
VOICED_STRENGTH = 0.5  # normalised autocorrelation at the pitch period

MODULATION_WINDOW = 128  # frames, 1.28 s
MODULATION_HOP = 32  # frames
MODULATION_EDGES = (1, 2, 4, 6, 9, 13, 19, 28, 45)  # Hz


def functionals_table(
    store: AudioStore, utterance_ids: Sequence[str], workers: int = 1
) -> pd.DataFrame:
    """Describe every utterance of a store.

    Parameters
    ----------
    store : AudioStore
    utterance_ids : sequence of str, length n
    workers : int
        Processes.

    Returns
    -------
    DataFrame, shape (n, 1 + 1437)
        `utterance_id`, and the values of `extract`, prefixed `f_`.
    """
    # Each process is one thread: the matrix products here are too small to share.
    with ProcessPoolExecutor(workers, initializer=threadpool_limits, initargs=(1,)) as pool:
        described = pool.map(partial(_describe, store), utterance_ids, chunksize=8)
        rows = list(tqdm(described, total=len(utterance_ids), desc="functionals", unit="utt"))
    frame = pd.DataFrame(rows).add_prefix("f_")
    frame.insert(0, "utterance_id", list(utterance_ids))
    return frame


def _describe(store: AudioStore, utterance_id: str) -> Features:
    return extract(store.samples(utterance_id))


def extract(samples: Array) -> Features:
    """Describe one utterance.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono signal at 16 kHz, full scale 1.0, of any length.

    Returns
    -------
    dict of str to float
        The same 1,437 finite values, in the same order, for every recording:

        ``mel*``, ``mfcc*``
            26 log mel bands (dB) and the first 16 coefficients of their
            cosine transform.
        ``centroid`` ... ``entropy``
            Spectral shape, see `shape_contours`.
        ``level``, ``loudness``, ``flux``, ``relative_flux``
            Energy, see `energy_contours`.
        ``f0``, ``hnr``, ``strength``, ``jitter*``, ``shimmer``
            Pitch and voice quality in voiced frames, see `pitch_contours` and
            `voice_features`.
        ``duration`` ... ``peak_rate``
            Rhythm, see `rhythm_features`.
        ``modulation*``
            Modulation spectrum, see `modulation_features`.

        A suffix names the functional (`contour_functionals`); the prefix
        ``delta_`` marks functionals of a contour's slope (`slope_functionals`).
    """
    power = power_spectrogram(np.asarray(samples, dtype=np.float32))
    mel = power @ mel_filters()
    log_mel = decibel(mel)
    energy = energy_contours(power, mel)
    pitch = pitch_contours(power)

    depth = energy["level"].max() - energy["level"]
    speech = depth < SPEECH_RANGE
    voiced = (depth < VOICED_RANGE) & (pitch["strength"] > VOICED_STRENGTH)

    features: Features = {}
    for contours in (
        mel_contours(log_mel),
        cepstral_contours(log_mel),
        shape_contours(power),
        energy,
    ):
        table = np.stack(list(contours.values()), axis=1)
        features |= named(contours, contour_functionals(table[speech]))
        features |= named(contours, slope_functionals(local_slope(table)[speech]), prefix="delta_")
    features |= voice_features(pitch, energy["level"], voiced)
    features |= rhythm_features(energy["loudness"], speech, voiced)
    features |= modulation_features(log_mel)
    return features


def voice_features(pitch: Contours, level: Array, voiced: Mask) -> Features:
    """Functionals of the pitch contours and of their steps in voiced frames.

    ``jitter`` is the median and ``jitter_second`` the mean size of the first
    and second difference of ``f0`` (semitones per frame), ``shimmer`` the mean
    size of the step in level (dB per frame): slow cousins of the
    period-to-period measures of the same name.
    """
    table = np.stack(list(pitch.values()), axis=1)
    pairs = voiced[1:] & voiced[:-1]
    triples = pairs[1:] & pairs[:-1]
    first = np.abs(np.diff(pitch["f0"]))[pairs]
    second = np.abs(np.diff(pitch["f0"], 2))[triples]
    return {
        **named(pitch, contour_functionals(table[voiced])),
        **named(pitch, slope_functionals(np.diff(table, axis=0)[pairs]), prefix="delta_"),
        "jitter": float(np.median(first)) if first.size else 0.0,
        "jitter_second": _mean(second),
        "shimmer": _mean(np.abs(np.diff(level))[pairs]),
    }


def rhythm_features(loudness: Array, speech: Mask, voiced: Mask) -> Features:
    """Timing: log ``duration`` (s), shares, rates (1/s) and segment lengths (s).

    ``peak_rate`` counts the peaks of the loudness smoothed over 0.1 s that
    reach 30 % of its maximum, roughly the syllables.
    """
    seconds = len(loudness) / FRAME_RATE
    voiced_length = _segment_lengths(voiced)
    unvoiced_length = _segment_lengths(~voiced)
    smooth = np.convolve(loudness, np.hanning(11) / np.hanning(11).sum(), mode="same")
    middle = smooth[1:-1]
    peaks = (middle > smooth[:-2]) & (middle >= smooth[2:]) & (middle > 0.3 * smooth.max())
    return {
        "duration": float(np.log(seconds)),
        "voiced_share": float(voiced.mean()),
        "speech_share": float(speech.mean()),
        "voiced_rate": len(voiced_length) / seconds,
        "voiced_length": _mean(voiced_length),
        "voiced_length_std": float(voiced_length.std()) if voiced_length.size else 0.0,
        "unvoiced_length": _mean(unvoiced_length),
        "unvoiced_length_std": float(unvoiced_length.std()) if unvoiced_length.size else 0.0,
        "pause_rate": len(_segment_lengths(~speech)) / seconds,
        "peak_rate": float(peaks.sum()) / seconds,
    }


def modulation_features(log_mel: Array) -> Features:
    """Modulation spectrum: how strongly each mel band fluctuates at each rate.

    The power spectrum of each mel level over 1.28 s, averaged over the
    utterance and over eight modulation bands between 1 and 45 Hz, in dB.
    ``modulation3_0`` is mel band 3 at the slowest rate.
    """
    contour = log_mel - log_mel.mean(axis=0)
    contour = np.pad(contour, ((0, max(0, MODULATION_WINDOW - len(contour))), (0, 0)))
    segments = np.lib.stride_tricks.sliding_window_view(contour, MODULATION_WINDOW, axis=0)[
        ::MODULATION_HOP
    ]
    segments = segments - segments.mean(axis=2, keepdims=True)
    window = get_window("hann", MODULATION_WINDOW).astype(np.float32)
    spectrum = (np.abs(rfft(segments * window, 512)) ** 2).mean(axis=0)
    rate = np.fft.rfftfreq(512, 1 / FRAME_RATE)
    return {
        f"modulation{band}_{k}": float(value)
        for k, (low, high) in enumerate(pairwise(MODULATION_EDGES))
        for band, value in enumerate(
            decibel(spectrum[:, (rate >= low) & (rate < high)].mean(axis=1) + 1e-2)
        )
    }


def _segment_lengths(mask: Mask) -> Array:
    """Lengths in seconds of the runs of true values."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return (edges[1::2] - edges[::2]) / FRAME_RATE


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0
