"""Audio, decoded once: any file to 16 kHz mono, into one packed, memory-mapped store per corpus."""

from __future__ import annotations

import hashlib
import math
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import soundfile
import soxr
from tqdm import tqdm

from serflow.errors import UserError, name_some
from serflow.files import atomic
from serflow.tables import AUDIO_INDEX, LISTING, SKIPPED, UTTERANCES

SAMPLE_RATE = 16_000
FULL_SCALE = 32_768

# A shared disk answers many small files slowly: a task is a handful of utterances.
_UTTERANCES_PER_TASK = 16
_FAULTS_SHOWN = 20
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


class AudioFault(UserError):
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


def quantise(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Round float samples to little-endian int16, limited to full scale.

    Parameters
    ----------
    samples : ndarray of float, shape (n,)
        Full scale is 1.

    Returns
    -------
    quantised : ndarray of int16, shape (n,)
    limited : int
        How many samples were out of range.

    Examples
    --------
    >>> quantise(np.array([0.5, -1.0, 1.5]))
    (array([ 16384, -32768,  32767], dtype=int16), 1)
    """
    scaled = samples * FULL_SCALE
    np.rint(scaled, out=scaled)
    limited = 0
    if scaled.max() >= FULL_SCALE or scaled.min() < -FULL_SCALE:
        limited = int(np.count_nonzero((scaled >= FULL_SCALE) | (scaled < -FULL_SCALE)))
        np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled)
    return scaled.astype("<i2"), limited


def pack(
    listing: pd.DataFrame,
    samples_path: str | Path,
    index_path: str | Path,
    *,
    root: str | Path,
    bad_audio: str = "fail",
    workers: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decode a corpus into one packed store and describe each utterance.

    The store is one raw file of int16 samples, utterance after utterance in the listing's order,
    and an index table. int16 is lossless for the 16-bit, 16 kHz sources that most corpora are; it
    lies 98 dB below full scale for all others, under the noise of any microphone; and it takes
    half the disk and page cache of float32. Out-of-range floats are limited, counted and noted.

    Threads, not processes: libsndfile, soxr, hashlib and NumPy release the interpreter's lock, and
    no samples are copied between processes.

    Parameters
    ----------
    listing : DataFrame
        `tables.LISTING`. A missing `start` or `end` means the file's.
    samples_path, index_path : path
        Written whole or not at all.
    root : path
        Folder that relative paths of the listing start from.
    bad_audio : {'fail', 'skip-and-report'}
        Whether faulty files stop the run, all named, or are left out and reported.
    workers : int
        Threads.

    Returns
    -------
    utterances : DataFrame
        `tables.UTTERANCES`: the listing's readable rows with `duration_s` (seconds), `sample_rate`
        (of the file, Hz), `peak_db` and `rms_db` (dBFS of the stored samples, at most 0),
        `clipped` (stored samples at full scale), `audio_digest` (first 16 hex digits of the
        SHA-256 of the stored samples) and `audio_note`.
    skipped : DataFrame
        `tables.SKIPPED`.

    Raises
    ------
    UserError
        Faulty files under the policy 'fail'; no usable file; an empty listing.
    """
    if bad_audio not in ("fail", "skip-and-report"):
        raise ValueError(f"bad_audio must be 'fail' or 'skip-and-report', not {bad_audio!r}")
    LISTING.check(listing, f"of {root}")
    listing = listing.reset_index(drop=True)
    if listing.empty:
        raise UserError(f"{root}: no utterance is listed, so there is no audio to prepare")
    jobs = [
        (Path(root, path), _seconds_or_none(start), _seconds_or_none(end))
        for path, start, end in zip(listing["path"], listing["start"], listing["end"], strict=True)
    ]
    tasks = (jobs[i : i + _UTTERANCES_PER_TASK] for i in range(0, len(jobs), _UTTERANCES_PER_TASK))
    facts: list[dict[str, Any]] = []
    kept: list[int] = []
    faults: list[tuple[int, AudioFault]] = []
    row = offset = 0
    with (
        atomic(samples_path) as partial,
        partial.open("wb") as file,
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(jobs), desc="audio", unit="utt", mininterval=1.0) as bar,
    ):
        for results in _in_order(pool, _prepare_some, tasks, ahead=4 * workers):
            for result in results:
                if isinstance(result, AudioFault):
                    faults.append((row, result))
                else:
                    samples, described = result
                    file.write(samples)
                    facts.append({**described, "offset": offset, "samples": len(samples)})
                    kept.append(row)
                    offset += len(samples)
                row += 1
            bar.update(len(results))
        if faults and (bad_audio == "fail" or not kept):
            raise UserError(_faults_message(faults, len(jobs), bad_audio))
    columns = pd.DataFrame(facts)
    utterances = listing.loc[kept].reset_index(drop=True)
    index = pd.concat([utterances["utterance_id"], columns[["offset", "samples"]]], axis=1)
    AUDIO_INDEX.write(index, index_path, {"sample_rate": SAMPLE_RATE, "encoding": "int16"})
    described = [c for c in UTTERANCES.columns if c not in LISTING.columns]
    skipped = pd.DataFrame(
        [(listing.at[i, "utterance_id"], listing.at[i, "path"], f.reason) for i, f in faults],
        columns=list(SKIPPED.columns),
    )
    return pd.concat([utterances, columns[described]], axis=1), skipped


def _seconds_or_none(value: float | None) -> float | None:
    return None if pd.isna(value) else float(value)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable, tasks: Iterable, ahead: int
) -> Iterator[Any]:
    """Yield results in the tasks' order, at most `ahead` at work or waiting to be written.

    `Executor.map` starts everything at once: on a slow disk a large corpus would pile up in memory.
    """
    tasks = iter(tasks)
    waiting = deque(pool.submit(function, task) for task in islice(tasks, ahead))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(function, task) for task in islice(tasks, 1))
        yield result


def _prepare_some(jobs: list[tuple[Path, float | None, float | None]]) -> list[Any]:
    return [_prepare(*job) for job in jobs]


def _prepare(
    path: Path, start: float | None, end: float | None
) -> tuple[np.ndarray, dict[str, Any]] | AudioFault:
    try:
        decoded, source = decode(path, start, end)
    except AudioFault as fault:
        return fault
    samples, limited = quantise(decoded)
    # Not abs(): -32768 has no positive counterpart in 16 bits.
    low, high = int(samples.min()), int(samples.max())
    at_limit = 0
    if low == -FULL_SCALE or high == FULL_SCALE - 1:
        at_limit = np.count_nonzero((samples == -FULL_SCALE) | (samples == FULL_SCALE - 1))
    power = np.mean(np.square(samples, dtype=np.float32)) / FULL_SCALE**2
    notes = [source.note] if source.note else []
    if limited:
        notes.append(f"{limited} samples were out of range and limited")
    return samples, {
        "duration_s": len(samples) / SAMPLE_RATE,
        "sample_rate": source.sample_rate,
        "peak_db": round(20 * math.log10(max(high, -low) / FULL_SCALE), 2) + 0.0,
        "rms_db": round(10 * math.log10(power), 2),
        "clipped": int(at_limit),
        "audio_digest": hashlib.sha256(samples).hexdigest()[:16],
        "audio_note": "; ".join(notes) or None,
    }


def _faults_message(faults: list[tuple[int, AudioFault]], total: int, bad_audio: str) -> str:
    lines = [f"  {fault}" for _, fault in faults[:_FAULTS_SHOWN]]
    if len(faults) > _FAULTS_SHOWN:
        lines.append(f"  and {len(faults) - _FAULTS_SHOWN} more")
    advice = (
        "Mend or replace them, or leave them out of the study, reported, with\n"
        "`bad_audio: skip-and-report` under this corpus in the study's file."
        if bad_audio == "fail"
        else "Nothing is left to work on: mend or replace them."
    )
    return "\n".join([f"{len(faults)} of {total} utterances have faulty audio:", *lines, advice])


class AudioStore:
    """Random access to the decoded utterances of one or more corpora.

    The files are mapped at the first access, in each process anew: the store pickles into data
    loader workers at the cost of its index, and all processes share the system's page cache.

    Parameters
    ----------
    stores : iterable of (samples file, index file)
        As `pack` writes them.

    Raises
    ------
    UserError
        An utterance is in two stores, or a samples file is not of the length its index says.
    """

    def __init__(self, stores: Iterable[tuple[str | Path, str | Path]]) -> None:
        self._files: list[Path] = []
        self._maps: dict[int, np.ndarray] = {}
        self._places: dict[str, tuple[int, int, int]] = {}
        for number, (samples_path, index_path) in enumerate(stores):
            self._files.append(Path(samples_path))
            index = AUDIO_INDEX.read(index_path)
            twice = index.loc[index["utterance_id"].isin(self._places), "utterance_id"]
            if len(twice):
                raise UserError(
                    f"{len(twice)} utterances are in {index_path} and in an earlier store: "
                    f"{name_some(twice)}. Utterance ids must differ between corpora."
                )
            expected = 2 * int((index["offset"] + index["samples"]).max()) if len(index) else 0
            try:
                found = self._files[-1].stat().st_size
            except OSError as error:
                raise UserError(f"{samples_path}: {error.strerror}") from None
            if found != expected:
                raise UserError(
                    f"{samples_path} holds {found} bytes, its index {index_path} says {expected}: "
                    "they are not of one run. Delete both and run again."
                )
            rows = index.itertuples(index=False)
            self._places.update((r.utterance_id, (number, r.offset, r.samples)) for r in rows)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._places

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def _place(self, utterance_id: str) -> tuple[int, int, int]:
        try:
            return self._places[utterance_id]
        except KeyError:
            raise UserError(
                f"utterance '{utterance_id}' is not in {name_some(self._files)}"
            ) from None

    def samples(self, utterance_id: str) -> np.ndarray:
        """float32 samples in [-1, 1], mono, 16 kHz, shape (n,); a copy that may be changed.

        Raises
        ------
        UserError
            No store has the utterance.
        """
        number, offset, length = self._place(utterance_id)
        if number not in self._maps:
            self._maps[number] = np.asarray(np.memmap(self._files[number], dtype="<i2", mode="r"))
        return self._maps[number][offset : offset + length] * np.float32(1 / FULL_SCALE)

    def seconds(self, utterance_id: str) -> float:
        """Duration in seconds, without touching the samples.

        Raises
        ------
        UserError
            No store has the utterance.
        """
        return self._place(utterance_id)[2] / SAMPLE_RATE
