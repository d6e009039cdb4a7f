"""Audio, decoded once: every utterance of a corpus into one packed store."""

from __future__ import annotations

import hashlib
import math
import mmap
import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from serflow.audio import FULL_SCALE, SAMPLE_RATE
from serflow.containers import AudioFault
from serflow.decoding import Source, decode
from serflow.errors import UserError
from serflow.files import atomic
from serflow.tables import AUDIO_INDEX, LISTING, UTTERANCES

# A task is a handful of utterances: enough to outweigh its hand-over.
_UTTERANCES_PER_TASK = 16
# Samples that a worker hands over in place, 131 s of speech; longer tasks are sent.
_SLOT_SAMPLES = 2**21
_FAULTS_SHOWN = 20
# Frames that count as silence: 20 ms, 40 dB below the loudest one or below -60 dBFS.
_FRAME = SAMPLE_RATE // 50
_SILENCE_BELOW_LOUDEST, _SILENCE_BELOW_FULL_SCALE = 1e-4, 1e-6

# In a worker: what `_shared_slots` gave.
_SLOTS: list[np.ndarray] | None = None

Job = tuple[Path, float | None, float | None, float | None]  # path, start, end, channel


def quantise(samples: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Round float samples to little-endian int16, limited to full scale.

    Parameters
    ----------
    samples : ndarray of float, shape (n,)
        Full scale is 1.
    out : ndarray of int16, shape (n,), optional
        Where to put them.

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
    if out is None:
        out = np.empty(len(scaled), "<i2")
    out[:] = scaled
    return out, limited


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

    Processes, not threads: threads spend more time on handing over the interpreter's lock than a
    short utterance takes. Workers lay their samples into memory that they share with this process,
    which writes them in the listing's order.

    Utterances without a path are text alone: they come back undescribed, and are not in the store.

    Parameters
    ----------
    listing : DataFrame
        `tables.LISTING`. A missing `start` or `end` means the file's, a missing `channel` the mean.
    samples_path, index_path : path
        Written whole or not at all.
    root : path
        Folder that relative paths of the listing start from.
    bad_audio : {'fail', 'skip-and-report'}
        Whether faulty files stop the run, all named, or are left out and reported.
    workers : int
        Processes.

    Returns
    -------
    utterances : DataFrame
        `tables.UTTERANCES`: the listing's readable rows with `duration_s` (seconds), `sample_rate`
        (of the file, Hz), `peak_db` and `rms_db` (dBFS of the stored samples, at most 0),
        `clipped` (stored samples at full scale), `silence_ratio` (share of 20 ms frames that are
        40 dB below the loudest one or below -60 dBFS, in [0, 1]), `audio_digest` (first 16 hex
        digits of the SHA-256 of the stored samples) and `audio_note`.
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
    spoken = listing[listing["path"].notna()]
    jobs = [
        (Path(root, path), _or_none(start), _or_none(end), _or_none(channel))
        for path, start, end, channel in spoken[["path", "start", "end", "channel"]].itertuples(
            index=False, name=None
        )
    ]
    facts: list[dict[str, Any]] = []
    kept: list[int] = []
    faults: list[tuple[int, AudioFault]] = []
    row = offset = 0
    with (
        atomic(samples_path) as partial,
        partial.open("wb") as file,
        tqdm(total=len(jobs), desc="audio", unit="utt", mininterval=1.0) as bar,
    ):
        for samples, results in _prepared(jobs, workers):
            file.write(samples)
            for result in results:
                if isinstance(result, AudioFault):
                    faults.append((row, result))
                else:
                    facts.append({**result, "offset": offset})
                    kept.append(row)
                    offset += result["samples"]
                row += 1
            bar.update(len(results))
        if faults and (bad_audio == "fail" or not kept):
            raise UserError(_faults_message(faults, len(jobs), bad_audio))
    described = [c for c in UTTERANCES.columns if c not in LISTING.columns]
    columns = pd.DataFrame(facts, columns=[*described, "offset", "samples"])
    columns.index = spoken.index[kept]
    index = spoken.iloc[kept][["utterance_id"]].join(columns[["offset", "samples"]])
    AUDIO_INDEX.write(index, index_path, {"sample_rate": SAMPLE_RATE, "encoding": "int16"})
    left_out = spoken.iloc[[row for row, _ in faults]]
    utterances = listing.join(columns[described]).drop(left_out.index).reset_index(drop=True)
    skipped = left_out[["utterance_id", "path"]].assign(reason=[f.reason for _, f in faults])
    return utterances, skipped.reset_index(drop=True)


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else value


def _prepared(
    jobs: list[Job], workers: int
) -> Iterator[tuple[np.ndarray, list[dict[str, Any] | AudioFault]]]:
    """Yield the samples of some jobs, one after the other, and what there is to say of each.

    In the jobs' order; the samples are good until the next step. At most three tasks a worker are
    under way: on a slow disk a large corpus must not pile up in memory.
    """
    tasks = iter(
        [jobs[i : i + _UTTERANCES_PER_TASK] for i in range(0, len(jobs), _UTTERANCES_PER_TASK)]
    )
    if workers == 1:
        slot = np.empty(_SLOT_SAMPLES, "<i2")
        yield from (_prepare_all(task, slot) for task in tasks)
        return
    slots = _shared_slots(3 * workers)
    with ProcessPoolExecutor(workers, initializer=_share, initargs=(slots,)) as pool:
        waiting = deque(
            (slot, pool.submit(_prepare_into, slot, task))
            for slot, task in zip(range(3 * workers), tasks, strict=False)
        )
        while waiting:
            slot, future = waiting.popleft()
            samples, results = future.result()
            yield slots[slot][:samples] if isinstance(samples, int) else samples, results
            for task in islice(tasks, 1):
                waiting.append((slot, pool.submit(_prepare_into, slot, task)))


def _shared_slots(count: int) -> list[np.ndarray] | None:
    """Memory that forked workers share with this process; None where workers are not forked."""
    if multiprocessing.get_start_method() != "fork":
        return None
    sizes = [mmap.mmap(-1, 2 * _SLOT_SAMPLES) for _ in range(count)]
    return [np.frombuffer(memory, dtype="<i2") for memory in sizes]


def _share(slots: list[np.ndarray] | None) -> None:
    global _SLOTS
    _SLOTS = slots


def _prepare_into(
    slot: int, jobs: list[Job]
) -> tuple[int | np.ndarray, list[dict[str, Any] | AudioFault]]:
    shared = None if _SLOTS is None else _SLOTS[slot]
    samples, results = _prepare_all(jobs, shared)
    in_place = shared is not None and np.may_share_memory(samples, shared)
    return len(samples) if in_place else samples, results


def _prepare_all(
    jobs: list[Job], slot: np.ndarray | None
) -> tuple[np.ndarray, list[dict[str, Any] | AudioFault]]:
    """The samples of all jobs, one after the other, and the facts or the fault of each.

    The samples are the beginning of `slot` where they fit.
    """
    space = np.empty(_SLOT_SAMPLES, "<i2") if slot is None else slot
    used = 0
    results: list[dict[str, Any] | AudioFault] = []
    for path, start, end, channel in jobs:
        try:
            decoded, source = decode(path, start, end, None if channel is None else int(channel))
        except AudioFault as fault:
            results.append(fault)
            continue
        if used + len(decoded) > len(space):
            space = np.concatenate([space[:used], np.empty(used + 2 * len(decoded), "<i2")])
        samples, limited = quantise(decoded, space[used : used + len(decoded)])
        results.append(_describe(samples, limited, source))
        used += len(decoded)
    return space[:used], results


def _describe(samples: np.ndarray, limited: int, source: Source) -> dict[str, Any]:
    # Not abs(): -32768 has no positive counterpart in 16 bits.
    low, high = int(samples.min()), int(samples.max())
    at_limit = 0
    if low == -FULL_SCALE or high == FULL_SCALE - 1:
        at_limit = np.count_nonzero((samples == -FULL_SCALE) | (samples == FULL_SCALE - 1))
    power, silence = _levels(samples)
    notes = [source.note] if source.note else []
    if limited:
        notes.append(f"{limited} samples were out of range and limited")
    return {
        "samples": len(samples),
        "duration_s": len(samples) / SAMPLE_RATE,
        "sample_rate": source.sample_rate,
        "peak_db": round(20 * math.log10(max(high, -low) / FULL_SCALE), 2) + 0.0,
        "rms_db": round(10 * math.log10(power), 2),
        "clipped": int(at_limit),
        "silence_ratio": round(silence, 4),
        "audio_digest": hashlib.sha256(samples).hexdigest()[:16],
        "audio_note": "; ".join(notes) or None,
    }


def _levels(samples: np.ndarray) -> tuple[float, float]:
    """Mean power (1 at full scale) and share of silent frames, the short last one included."""
    values = samples.astype(np.float32)
    whole = len(values) // _FRAME
    frames, rest = values[: whole * _FRAME].reshape(whole, _FRAME), values[whole * _FRAME :]
    energy = np.einsum("ij,ij->i", frames, frames)
    power = energy / _FRAME
    total = float(energy.sum(dtype=np.float64))
    if len(rest):
        last = float(np.dot(rest, rest))
        total, power = total + last, np.append(power, last / len(rest))
    full_scale = float(FULL_SCALE) ** 2
    floor = max(power.max() * _SILENCE_BELOW_LOUDEST, full_scale * _SILENCE_BELOW_FULL_SCALE)
    return total / len(values) / full_scale, np.count_nonzero(power < floor) / len(power)


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
