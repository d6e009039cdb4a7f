"""Audio, decoded once: every utterance of a corpus into one packed store."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from serflow.audio import FULL_SCALE, SAMPLE_RATE
from serflow.decoding import AudioFault, decode
from serflow.errors import UserError
from serflow.files import atomic
from serflow.tables import AUDIO_INDEX, LISTING, SKIPPED, UTTERANCES

# A shared disk answers many small files slowly: a task is a handful of utterances.
_UTTERANCES_PER_TASK = 16
_FAULTS_SHOWN = 20


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

    Threads, not processes: libsndfile, soxr, hashlib and NumPy release the interpreter's lock for
    long enough, nothing is pickled, and there are no workers to start.

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
