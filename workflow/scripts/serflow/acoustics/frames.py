"""Spectral and energy contours: one value a frame, from one Fourier transform a frame."""

from __future__ import annotations

import functools

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, rfft
from scipy.signal import get_window

from serflow.audio import SAMPLE_RATE

Array = NDArray[np.float32]
Contours = dict[str, Array]

WINDOW = 640  # samples, 40 ms
HOP = 160  # samples, 10 ms
FRAME_RATE = SAMPLE_RATE / HOP  # frames per second
N_FFT = 1024  # leaves room for autocorrelation lags up to 24 ms

MEL_BANDS = 26
CEPSTRAL_COEFFICIENTS = 16

TINY = 1e-10


def power_spectrogram(samples: Array) -> Array:
    """Power spectrum of each frame, shape (frames, 513); the mean is removed."""
    if len(samples) < WINDOW:
        samples = np.pad(samples, (0, WINDOW - len(samples)))
    samples = samples - samples.mean()
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    spectrum = rfft(frames * frame_window(), N_FFT)
    return spectrum.real**2 + spectrum.imag**2


def decibel(power: Array) -> Array:
    """Power as a level in dB, with a floor at -100 dB."""
    return 10 * np.log10(power + TINY)


def mel_contours(log_mel: Array) -> Contours:
    """Level of each mel band, in dB."""
    return {f"mel{i}": band for i, band in enumerate(log_mel.T)}


def cepstral_contours(log_mel: Array) -> Contours:
    """Mel cepstrum (orthonormal cosine transform of the mel levels), in dB."""
    cepstrum = dct(log_mel, norm="ortho", axis=1)[:, :CEPSTRAL_COEFFICIENTS]
    return {f"mfcc{i}": coefficient for i, coefficient in enumerate(cepstrum.T)}


def shape_contours(power: Array) -> Contours:
    """Shape of the spectrum, independent of its level.

    ``centroid``, ``spread`` (Hz) and log-compressed ``skewness``, ``kurtosis``
    are the moments of the spectrum; ``rolloff*`` (octaves) is where the given
    percentage of the power is reached; ``alpha_ratio`` (dB) compares the power
    below and above 1 kHz, ``hammarberg`` (dB) the peaks below and above 2 kHz;
    ``slope_*`` (dB/kHz) is the regression slope within a band (Hz);
    ``flatness`` (dB) and ``entropy`` (nat) tell noise from tones.
    """
    hz = _frequencies()
    share = power / (power.sum(axis=1, keepdims=True) + TINY)
    centroid = share @ hz
    deviation = hz - centroid[:, None]
    variance = np.maximum((share * deviation**2).sum(axis=1), 1.0)
    skewness = (share * deviation**3).sum(axis=1) / variance**1.5
    kurtosis = (share * deviation**4).sum(axis=1) / variance**2
    contours = {
        "centroid": centroid,
        "spread": np.sqrt(variance),
        "skewness": np.log1p(np.maximum(skewness, -0.9)),
        "kurtosis": np.log1p(kurtosis),
    }

    reached = np.cumsum(share, axis=1)
    for percent in (25, 50, 75, 90):
        index = np.minimum((reached < percent / 100).sum(axis=1), len(hz) - 1)
        contours[f"rolloff{percent}"] = np.log2(hz[index] + 50)

    def band(low: float, high: float) -> Array:
        return power[:, (hz >= low) & (hz < high)]

    contours["alpha_ratio"] = decibel(band(50, 1000).sum(axis=1)) - decibel(
        band(1000, 5000).sum(axis=1)
    )
    contours["hammarberg"] = decibel(band(0, 2000).max(axis=1)) - decibel(
        band(2000, 5000).max(axis=1)
    )
    for low, high in ((0, 500), (500, 1500), (1500, 5000)):
        khz = hz[(hz >= low) & (hz < high)] / 1000
        contours[f"slope_{low}_{high}"] = regression_slope(khz, decibel(band(low, high)).T)
    contours["flatness"] = decibel(power).mean(axis=1) - decibel(power.mean(axis=1))
    contours["entropy"] = -(share * np.log(share + TINY)).sum(axis=1)
    return contours


def energy_contours(power: Array, mel: Array) -> Contours:
    """Energy and its change.

    ``level`` (dB); ``loudness``, the sum over mel bands of power ** 0.23;
    ``flux``, the distance between neighbouring frames on that loudness scale;
    ``relative_flux``, the same divided by the loudness.
    """
    excitation = mel**0.23
    change = np.diff(excitation, axis=0, prepend=excitation[:1])
    flux = np.linalg.norm(change, axis=1)
    loudness = excitation.sum(axis=1)
    return {
        "level": decibel(power.sum(axis=1)),
        "loudness": loudness,
        "flux": flux,
        "relative_flux": flux / (loudness + TINY),
    }


def regression_slope(position: Array, values: Array) -> Array:
    """Least-squares slope of each column of `values` over `position`, shape (n,)."""
    centred = position - position.mean()
    return centred @ values / (centred @ centred)


@functools.cache
def frame_window() -> Array:
    """Hann window of one frame, shape (640,)."""
    return get_window("hann", WINDOW).astype(np.float32)


@functools.cache
def _frequencies() -> Array:
    return np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE).astype(np.float32)


@functools.cache
def mel_filters() -> Array:
    """Triangular mel filters as columns, shape (513, 26)."""
    filters = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=MEL_BANDS, fmin=50.0, htk=True, norm=None
    )
    return filters.T.astype(np.float32)
