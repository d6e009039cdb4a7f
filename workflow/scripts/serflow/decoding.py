"""Any audio file to 16 kHz mono, or the reason why it cannot serve as speech."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from serflow.audio import FULL_SCALE, SAMPLE_RATE
from serflow.errors import UserError

# Enough for the chunks before the samples of nearly every WAV.
_HEAD = 4096
# Segment tables are rounded to centiseconds; an end this little past the file's is no fault.
_ROUNDING_S = 0.01
# Writers to a pipe cannot know the length: ffmpeg leaves 0xFFFFFFFF, sox 0x7FFFF000.
_UNKNOWN_LENGTH = 0x7FFF_F000
_CONTAINERS = {
    ".wav": ("WAV", "WAVEX", "RF64", "W64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3",),
}
_NOT_AUDIO = {
    b"version https://git-lfs": "a git-LFS pointer, not the audio: run `git lfs pull` there",
    b"<!doctype html": "a web page, not audio: the download needs a login or has moved",
    b"<html": "a web page, not audio: the download needs a login or has moved",
}


class AudioFault(UserError):  # noqa: N818 - a fault of the file, not an error of ours
    """One file that cannot serve as speech.

    Attributes
    ----------
    path : Path
    reason : str
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


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
    them, resampled with soxr's HQ recipe. Floating-point files may exceed [-1, 1]; they are not
    limited here.

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
        than the segment, without the channel or any samples, digitally silent, or holds NaN or
        infinite values.
    """
    path = Path(path)
    with _opened(path) as descriptor:
        _refuse_what_is_not_audio(path, descriptor)
        try:
            with soundfile.SoundFile(descriptor, closefd=False) as file:
                rate, channels, container = file.samplerate, file.channels, file.format
                if channel is not None and not 0 <= channel < channels:
                    raise AudioFault(path, f"has {channels} channels, counted from 0: no {channel}")
                first, last = _segment(path, start, end, file.frames, rate)
                if first:
                    file.seek(first)
                read = _read(file, last - first)
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
        raise AudioFault(path, "holds no samples")
    peak = _peak(samples)
    if not math.isfinite(peak):
        unusable = len(read) - np.count_nonzero(np.isfinite(read.reshape(len(read), -1)).all(1))
        raise AudioFault(path, f"NaN or infinite values in {unusable} of {len(read)} samples")
    # What rounds to 16-bit zeros throughout.
    if peak * FULL_SCALE < 0.5:
        if channels > 1 and channel is None and _peak(read) * FULL_SCALE >= 0.5:
            raise AudioFault(path, f"its {channels} channels cancel to digital silence")
        raise AudioFault(path, "digital silence")
    notes = []
    if channels > 1:
        what = "mean" if channel is None else f"number {channel}"
        notes.append(f"{what} of {channels} channels")
    suffix = path.suffix.lower()
    if container not in _CONTAINERS.get(suffix, (container,)):
        notes.append(f"{container} data in a file named {suffix}")
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


def _read(file: soundfile.SoundFile, frames: int) -> np.ndarray:
    """float32 samples. NumPy scales 16-bit ones several times faster than libsndfile, to the bit."""
    if file.subtype != "PCM_16":
        return file.read(frames, dtype="float32")
    return file.read(frames, dtype="int16") * np.float32(1 / FULL_SCALE)


def _peak(samples: np.ndarray) -> float:
    """Largest magnitude; NaN or infinite where any sample is."""
    return float(max(samples.max(), -samples.min()))


def _refuse_what_is_not_audio(path: Path, descriptor: int) -> None:
    """Faults that libsndfile words badly ("Format not recognised") or does not see at all."""
    try:
        head = os.pread(descriptor, _HEAD, 0)
        if not head:
            raise AudioFault(path, "empty (0 bytes)")
        for sign, reason in _NOT_AUDIO.items():
            if head[: len(sign)].lower() == sign:
                raise AudioFault(path, reason)
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            _refuse_cut_wav(path, descriptor, head)
    except OSError as error:
        raise AudioFault(path, f"cannot be opened ({error.strerror})") from None


def _refuse_cut_wav(path: Path, descriptor: int, head: bytes) -> None:
    """Compare the data chunk's length with the file's: libsndfile trusts the shorter silently."""
    size = os.fstat(descriptor).st_size
    position = 12
    while position + 8 <= size:
        chunk = head[position : position + 8]
        if len(chunk) < 8:
            chunk = os.pread(descriptor, 8, position)
        name, length = struct.unpack("<4sI", chunk)
        position += 8
        if name == b"data":
            if length < _UNKNOWN_LENGTH and position + length > size:
                raise AudioFault(
                    path,
                    f"cut off: its RIFF header promises {length} bytes of samples, "
                    f"the file holds {size - position}",
                )
            return
        position += length + length % 2


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
