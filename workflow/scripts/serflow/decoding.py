"""Any audio file to 16 kHz mono, or the reason why it cannot serve as speech."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from serflow.audio import FULL_SCALE, SAMPLE_RATE
from serflow.errors import UserError

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
    path: str | Path, start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, Source]:
    """Decode a file, or a segment of it, to 16 kHz mono.

    Any format, rate and channel count that libsndfile reads: the mean of the channels, resampled
    with soxr's HQ recipe. Floating-point files may exceed [-1, 1]; they are not limited here.

    Parameters
    ----------
    path : path
    start, end : float, optional
        Seconds; by default the whole file.

    Returns
    -------
    samples : ndarray of float32, shape (n,)
        Full scale is 1.
    source : Source

    Raises
    ------
    AudioFault
        The file is missing, empty, a git-LFS pointer or a web page, unreadable, cut off, shorter
        than the segment, without samples, digitally silent, or holds NaN or infinite values.
    """
    path = Path(path)
    _refuse_what_is_not_audio(path)
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels, container = file.samplerate, file.channels, file.format
            first, last = _segment(path, start, end, file.frames, rate)
            if first:
                file.seek(first)
            channel_samples = file.read(last - first, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioFault(path, f"unreadable or corrupt ({error.error_string})") from None
    if len(channel_samples) < last - first:
        raise AudioFault(
            path,
            f"cut off: its header promises {last / rate:.2f} s, "
            f"{(first + len(channel_samples)) / rate:.2f} s can be decoded",
        )
    samples = channel_samples.mean(axis=1) if channels > 1 else channel_samples[:, 0]
    unusable = len(samples) - np.count_nonzero(np.isfinite(samples))
    if unusable:
        raise AudioFault(path, f"NaN or infinite values in {unusable} of {len(samples)} samples")
    if rate != SAMPLE_RATE and len(samples):
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    if not len(samples):
        raise AudioFault(path, "holds no samples")
    # What rounds to 16-bit zeros throughout.
    if _peak(samples) * FULL_SCALE < 0.5:
        if channels > 1 and _peak(channel_samples) * FULL_SCALE >= 0.5:
            raise AudioFault(path, f"its {channels} channels cancel to digital silence")
        raise AudioFault(path, "digital silence")
    notes = []
    if channels > 1:
        notes.append(f"mean of {channels} channels")
    suffix = path.suffix.lower()
    if container not in _CONTAINERS.get(suffix, (container,)):
        notes.append(f"{container} data in a file named {suffix}")
    return samples, Source(rate, channels, "; ".join(notes))


def _peak(samples: np.ndarray) -> float:
    return float(max(samples.max(), -samples.min()))


def _refuse_what_is_not_audio(path: Path) -> None:
    """Faults that libsndfile words badly ("Format not recognised") or does not see at all."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(64)
            if not head:
                raise AudioFault(path, "empty (0 bytes)")
            for sign, reason in _NOT_AUDIO.items():
                if head.lower().startswith(sign):
                    raise AudioFault(path, reason)
            if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
                _refuse_cut_wav(path, file, size)
    except FileNotFoundError:
        raise AudioFault(path, "missing") from None
    except OSError as error:
        raise AudioFault(path, f"cannot be opened ({error.strerror})") from None


def _refuse_cut_wav(path: Path, file: BinaryIO, size: int) -> None:
    """Compare the data chunk's length with the file's: libsndfile trusts the shorter silently."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
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
