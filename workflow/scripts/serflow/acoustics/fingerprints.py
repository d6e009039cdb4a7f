"""Audio fingerprints: what of a recording survives re-encoding, a change of level and a cut.

After J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: every
12 ms, one 32-bit word says how the energies of neighbouring bands between 300 and 2000 Hz, which
every telephone passes, differ and how that difference changes. A word describes 0.4 s, so two
recordings can start at any sample. Played faster or at another pitch, a recording is another one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.ndimage import maximum_filter1d
from scipy.signal import firwin, get_window, upfirdn
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.tables import TEXT, Table

# Words of each utterance, in time; 0 is a frame without speech. An utterance of less than
# `WINDOW_S + HOP_S` has none.
FINGERPRINTS = Table(
    "fingerprints",
    {"utterance_id": TEXT, "words": pa.list_(pa.uint32())},
    ["utterance_id"],
    ["words"],
)

Words = NDArray[np.uint32]

DECIMATION = 3  # to 5,333 Hz, which holds all bands
WINDOW = 2048  # decimated samples
HOP = 64  # decimated samples; the paper's 31/32 overlap
WINDOW_S = WINDOW * DECIMATION / SAMPLE_RATE  # 0.384 s
HOP_S = HOP * DECIMATION / SAMPLE_RATE  # 0.012 s
BANDS = 33
LOW, HIGH = 300.0, 2000.0  # Hz
# Frames without speech: 30 dB below the loudest within so many seconds before or after, or below a
# sine at -75 dBFS. Their words are the background's, which many recordings of one room share. Near,
# not anywhere: a quiet clip would else have no word of the long recording that it was cut from.
BELOW_LOUDEST = 1e-3
NEAR_S = 2.0
FLOOR = 1.5 * (10 ** (-75 / 20) * WINDOW / 4) ** 2
# Frames whose spectra are in memory at once: 4,096 take about 35 MB, whatever the length.
_FRAMES_AT_ONCE = 4096


def fingerprints_table(
    store: AudioStore, utterance_ids: Sequence[str], workers: int = 1
) -> pd.DataFrame:
    """Fingerprint every utterance of a store.

    Parameters
    ----------
    store : AudioStore
    utterance_ids : sequence of str, length n
    workers : int
        Processes.

    Returns
    -------
    DataFrame, shape (n, 2)
        `FINGERPRINTS`.
    """
    with ProcessPoolExecutor(workers, initializer=threadpool_limits, initargs=(1,)) as pool:
        found = pool.map(partial(_fingerprint, store), utterance_ids, chunksize=32)
        words = list(tqdm(found, total=len(utterance_ids), desc="fingerprints", unit="utt"))
    # As objects, also where there are none: a corpus may be text alone.
    return pd.DataFrame(
        {"utterance_id": list(utterance_ids), "words": pd.Series(words, dtype=object)}
    )


def _fingerprint(store: AudioStore, utterance_id: str) -> Words:
    return fingerprint(store.samples(utterance_id))


def fingerprint(samples: NDArray[np.float32]) -> Words:
    """Fingerprint one recording.

    Bit m of word n is set where E(n, m) - E(n, m+1) exceeds E(n-1, m) - E(n-1, m+1), with E(n, m)
    the energy of frame n in band m (Haitsma & Kalker 2002, eq. 1).

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono signal at 16 kHz, full scale 1.0, of any length.

    Returns
    -------
    ndarray of uint32, shape (words,)
        One word each `HOP_S`; 0 in frames without speech.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) / 10
    >>> np.array_equal(fingerprint(noise), fingerprint(noise / 4))
    True
    """
    decimated = upfirdn(_low_pass(), np.asarray(samples, dtype=np.float32), 1, DECIMATION)
    frames = (len(decimated) - WINDOW) // HOP + 1
    if frames < 2:
        return np.zeros(0, np.uint32)
    energy = np.concatenate(
        [
            _band_energies(
                decimated[start * HOP : (min(start + _FRAMES_AT_ONCE, frames) - 1) * HOP + WINDOW]
            )
            for start in range(0, frames, _FRAMES_AT_ONCE)
        ]
    )
    bits = np.diff(energy[:, :-1] - energy[:, 1:], axis=0) > 0
    words = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    words[words == 0] = 1
    total = energy.sum(axis=1)
    loudest = maximum_filter1d(total, 2 * round(NEAR_S / HOP_S) + 1, mode="nearest")
    speech = total >= np.maximum(BELOW_LOUDEST * loudest, FLOOR)
    words[~(speech[1:] & speech[:-1])] = 0
    return words


def _band_energies(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Energy of each frame and band, shape (frames, 33)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    spectrum = rfft(frames * _window(), axis=1)[:, : _edges()[-1]]
    return np.add.reduceat(spectrum.real**2 + spectrum.imag**2, _edges()[:-1], axis=1)


@functools.cache
def _low_pass() -> NDArray[np.float32]:
    return firwin(61, 2300.0, fs=SAMPLE_RATE).astype(np.float32)


@functools.cache
def _window() -> NDArray[np.float32]:
    return get_window("hann", WINDOW).astype(np.float32)


@functools.cache
def _edges() -> NDArray[np.intp]:
    """First bin of each band, and the bin after the last band, shape (34,)."""
    hertz = np.geomspace(LOW, HIGH, BANDS + 1)
    return np.rint(hertz * DECIMATION / SAMPLE_RATE * WINDOW).astype(np.intp)
