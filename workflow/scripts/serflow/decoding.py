"""Any audio file to 16 kHz mono, or the reason why it cannot serve as speech."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from serflow.audio import DIGITAL_SILENCE, FULL_SCALE, NO_SAMPLES, SAMPLE_RATE
from serflow.containers import ANEW, UNKNOWN_LONG, AudioFault, refuse_what_is_not_audio
from serflow.mpeg import MPEG, mpeg_length

# Segment tables are rounded to centiseconds; an end this little past the file's is no fault.
_ROUNDING_S = 0.01
# Less than this after the declared samples is padding or a stray tag, not speech.
_SURPLUS_S = 0.1
# Float files: how many samples may exceed [-1, 1], as loud speech does, and by how much (18 dB).
_OUT_OF_RANGE, _OUT_OF_REASON = 0.05, 8.0
_CONTAINERS = {
    ".wav": ("WAV", "WAVEX", "RF64", "W64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3",),
}


@dataclass(frozen=True)
class Source:
    """What a file was before it was decoded.

    Attributes
    ----------
    sample_rate : int
        Hz.
    channels : int
    note : str
        What a reader should know ("mean of 2 channels", "MP3 data in a file named .wav"); often
        empty.
    """

    sample_rate: int
    channels: int
    note: str


def decode(
    path: str | Path,
    start: float | None = None,
    end: float | None = None,
    channel: int | None = None,
) -> tuple[np.ndarray, Source]:
    """Decode a file, or a segment of it, to 16 kHz mono.

    Any format, rate and channel count that libsndfile reads: the mean of the channels or one of
    them, resampled with soxr's HQ recipe. Floating-point files may exceed [-1, 1] here and there;
    they are not limited here.

    Parameters
    ----------
    path : path
    start, end : float, optional
        Seconds; by default the whole file.
    channel : int, optional
        Counted from 0; by default the mean of all.

    Returns
    -------
    samples : ndarray of float32, shape (n,)
        Full scale is 1.
    source : Source

    Raises
    ------
    AudioFault
        The file is missing, empty, a git-LFS pointer or a web page, unreadable, cut off, shorter
        than the segment, without the channel or any samples, digitally silent, far out of range,
        of a length that cannot be told, or holds NaN or infinite values.
    """
    path = Path(path)
    with _opened(path) as descriptor:
        declared = refuse_what_is_not_audio(path, descriptor)
        try:
            with soundfile.SoundFile(descriptor, closefd=False) as file:
                rate, channels, frames = file.samplerate, file.channels, file.frames
                container, subtype = file.format, file.subtype
                if channel is not None and not 0 <= channel < channels:
                    raise AudioFault(path, f"has {channels} channels, counted from 0: no {channel}")
                if frames > UNKNOWN_LONG:
                    raise AudioFault(path, f"its header does not tell its length: {ANEW}")
                held, source = frames, file
                if subtype in MPEG:
                    content = os.pread(descriptor, declared.length or declared.size, declared.start)
                    frames, held, source = mpeg_length(path, content, file)
                elif declared.length:
                    held += round(frames * declared.surplus / declared.length)
                first, last = _segment(path, start, end, frames, rate)
                if first:
                    source.seek(first)
                read = _read(source, last - first, subtype)
        except soundfile.LibsndfileError as error:
            raise AudioFault(path, f"unreadable or corrupt ({error.error_string})") from None
    if len(read) < last - first:
        raise AudioFault(
            path,
            f"cut off: its header promises {last / rate:.2f} s, "
            f"{(first + len(read)) / rate:.2f} s can be decoded",
        )
    samples = read
    if channels > 1:
        samples = read.mean(axis=1) if channel is None else np.ascontiguousarray(read[:, channel])
    if rate != SAMPLE_RATE and len(samples):
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    if not len(samples):
        beyond = declared.surplus
        follows = f": its header promises none, {beyond} bytes follow it" if beyond else ""
        raise AudioFault(path, f"{NO_SAMPLES}{follows}")
    peak = _peak(samples)
    if not math.isfinite(peak):
        unusable = len(read) - np.count_nonzero(np.isfinite(read.reshape(len(read), -1)).all(1))
        raise AudioFault(path, f"NaN or infinite values in {unusable} of {len(read)} samples")
    if subtype in ("FLOAT", "DOUBLE"):
        whole = channels == 1 or channel is None
        _refuse_what_is_out_of_range(path, read if whole else read[:, channel])
    if _rounds_to_zero(peak):
        if channels > 1 and channel is None and not _rounds_to_zero(_peak(read)):
            raise AudioFault(path, f"its {channels} channels cancel to {DIGITAL_SILENCE}")
        raise AudioFault(path, DIGITAL_SILENCE)
    notes = []
    if channels > 1:
        what = "mean" if channel is None else f"number {channel}"
        notes.append(f"{what} of {channels} channels")
    suffix = path.suffix.lower()
    if container not in _CONTAINERS.get(suffix, (container,)):
        notes.append(f"{container} data in a file named {suffix}")
    if held - frames > _SURPLUS_S * rate:
        notes.append(
            f"its header promises {frames / rate:.2f} s, the file holds {held / rate:.2f} s"
        )
    return samples, Source(rate, channels, "; ".join(notes))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """One descriptor for all looks at a file: opening is the slow part of a small one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise AudioFault(path, "missing") from None
    except OSError as error:
        raise AudioFault(path, f"cannot be opened ({error.strerror})") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(file: soundfile.SoundFile, frames: int, subtype: str) -> np.ndarray:
    """float32 samples. NumPy scales 16-bit ones several times faster than libsndfile, to the bit."""
    if subtype != "PCM_16":
        return file.read(frames, dtype="float32")
    return file.read(frames, dtype="int16") * np.float32(1 / FULL_SCALE)


def _peak(samples: np.ndarray) -> float:
    """Largest magnitude; NaN or infinite where any sample is."""
    return float(max(samples.max(), -samples.min()))


def _rounds_to_zero(peak: float) -> bool:
    """Whether the store holds zeros alone: it rounds as here, exactly half a step to zero."""
    return round(peak * FULL_SCALE) == 0


def _refuse_what_is_out_of_range(path: Path, read: np.ndarray) -> None:
    """A few overshoots can be limited; 16-bit integers kept as floats would be square waves."""
    peak = _peak(read)
    if not 1 < peak < math.inf:
        return
    outside = np.count_nonzero(np.abs(read) > 1)
    if peak > _OUT_OF_REASON or outside > _OUT_OF_RANGE * read.size:
        raise AudioFault(
            path,
            f"{outside} of {read.size} samples are outside [-1, 1], the largest is {peak:.6g}: it "
            "seems to hold integers as floats, or is far too loud; write it anew, scaled into "
            "[-1, 1] (16-bit integers: divided by 32768)",
        )


def _segment(
    path: Path, start: float | None, end: float | None, frames: int, rate: int
) -> tuple[int, int]:
    first = 0 if start is None else round(start * rate)
    last = frames if end is None else round(end * rate)
    outside = first < 0 or last > frames + _ROUNDING_S * rate
    if outside or ((start is not None or end is not None) and first >= min(last, frames)):
        raise AudioFault(
            path,
            f"the segment from {start} to {end} s is not inside the file's {frames / rate:.2f} s",
        )
    return first, min(last, frames)
