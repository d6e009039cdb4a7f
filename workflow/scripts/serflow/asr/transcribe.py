"""One shard of a corpus to text: every utterance gets its row, whatever happens to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from serflow.asr.batches import Batches, Outcome
from serflow.asr.engine import Settings, Transcriber
from serflow.asr.journal import Journal, Row, journal_key
from serflow.asr.segments import MAX_PIECE_S, MIN_PIECE_S, Samples, cut_long, unfit
from serflow.asr.text import clean, why_suspect
from serflow.asr.voice import MIN_VOICE
from serflow.audio import SAMPLE_RATE
from serflow.errors import UserError, name_some

NOTE_LENGTH = 200


class Audio(Protocol):
    """What is needed of `serflow.audio.AudioStore`."""

    def __contains__(self, utterance_id: str) -> bool: ...

    def samples(self, utterance_id: str) -> Samples:
        """float32 samples, mono, 16 kHz."""


class Voice(Protocol):
    """What is needed of `serflow.asr.voice.VoiceDetector`."""

    def scores(self, batch: Sequence[Samples], enough: float) -> list[float]:
        """How sure it is, in [0, 1], that there is a voice in each; at `enough` it may stop."""


def transcribe_shard(
    store: Audio,
    shard: pd.DataFrame,
    load: Callable[[Settings], Transcriber],
    voice: Callable[[], Voice],
    journal_path: str | Path,
    settings: Settings,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Transcribe utterances.

    Audio is read, looked through for voices and cut in a thread of its own, while the model works
    on what was read before.

    Parameters
    ----------
    store : AudioStore
    shard : DataFrame
        `tables.SHARD`.
    load : callable
        `serflow.asr.engine.load_engine`. It is called before any audio is read, and not at all
        when the journal holds everything.
    voice : callable
        `serflow.asr.voice.VoiceDetector`.
    journal_path : path
        Where rows go as they come. A killed job finds them there; the caller removes the file once
        it has written the table.
    settings : Settings

    Returns
    -------
    rows : DataFrame
        `tables.TRANSCRIPTS`, one row for each utterance in the given order.
    facts : dict
        The engine's facts; `audio_s` and `wall_s` of what was transcribed this time, without the
        loading; `batch_seconds` as it was in the end; `resumed` utterances of an earlier try.

    Raises
    ------
    UserError
        The engine refuses model or language, or more utterances end as errors than
        `settings.max_error_rate` allows; the first are named, and nothing further is tried.
    """
    journal = Journal(journal_path, journal_key(settings))
    todo = shard[np.array([not journal.holds(*row) for row in _keys(shard)], dtype=bool)]
    facts: dict[str, Any] = {"resumed": len(shard) - len(todo), "audio_s": 0.0, "wall_s": 0.0}
    if len(todo):
        engine = load(settings)
        batches = Batches(engine, settings.batch_seconds)
        start = time.monotonic()
        errors: list[Row] = []
        for window, texts in _transcribed(todo, store, voice(), batches):
            rows = list(_rows(window, texts))
            journal.add(rows)
            errors += [row for row in rows if row.status == "error"]
            _check_errors(errors, len(shard), settings)
        facts |= engine.facts | {
            "audio_s": round(float(todo["seconds"].sum()), 1),
            "wall_s": round(time.monotonic() - start, 3),
            "batch_seconds": batches.seconds,
        }
    found = [vars(journal.rows[name]) for name in shard["utterance_id"]]
    frame = pd.DataFrame(found, columns=["utterance_id", "text", "status", "note"])
    return frame.assign(asr=settings.name), facts


@dataclass(frozen=True)
class Prepared:
    """An utterance as it was read: its pieces, or why it has none.

    Attributes
    ----------
    utterance_id, language, audio_digest : str
    pieces : list of ndarray of float32
    fault : tuple of str, optional
        Status and note.
    """

    utterance_id: str
    language: str
    audio_digest: str
    pieces: list[Samples]
    fault: tuple[str, str] | None = None


def windows(shard: pd.DataFrame, seconds: float) -> Iterator[pd.DataFrame]:
    """Parts of one language and like length, longest first, of at most so many padded seconds.

    Longest first: what does not fit the memory fails at once, and not after hours.

    Parameters
    ----------
    shard : DataFrame
        `tables.SHARD`. An utterance that will be cut counts all its pieces.
    seconds : float
        A longer single utterance is a part of its own.
    """
    for _, rows in shard.groupby("language", sort=True):
        rows = rows.sort_values("seconds", ascending=False, kind="stable")
        pieces = np.where(rows["seconds"] > MAX_PIECE_S, rows["seconds"] // MIN_PIECE_S, 1)
        first = padded = 0
        longest = 0.0
        for number, (length, n) in enumerate(zip(rows["seconds"], pieces, strict=True)):
            if number > first and (padded + n) * longest > seconds:
                yield rows.iloc[first:number]
                first, padded = number, 0
            if number == first:
                longest = min(length, MAX_PIECE_S)
            padded += n
        yield rows.iloc[first:]


def _transcribed(
    todo: pd.DataFrame, store: Audio, voice: Voice, batches: Batches
) -> Iterator[tuple[list[Prepared], list[Outcome]]]:
    """Every utterance once, with the outcomes of all pieces of its window, in their order."""
    parts = list(windows(todo, batches.seconds))
    # Two readers would not help: memory and the model are the limit.
    with (
        ThreadPoolExecutor(1) as reader,
        tqdm(total=len(todo), desc="transcribe", unit="utt", mininterval=1.0) as progress,
    ):
        coming = reader.submit(_prepare, parts[0], store, voice)
        for number in range(len(parts)):
            window = coming.result()
            if number + 1 < len(parts):
                coming = reader.submit(_prepare, parts[number + 1], store, voice)
            yield window, _longest_first(batches, window)
            progress.update(len(window))


def _longest_first(batches: Batches, window: Sequence[Prepared]) -> list[Outcome]:
    inputs = [piece for item in window for piece in item.pieces]
    order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
    found = batches.transcribe([inputs[i] for i in order], window[0].language) if inputs else []
    placed = dict(zip(order, found, strict=True))
    return [placed[i] for i in range(len(inputs))]


def _prepare(rows: pd.DataFrame, store: Audio, voice: Voice) -> list[Prepared]:
    """Read a window's audio; decide what of it the model sees."""
    read: list[Samples | None] = []
    faults: list[tuple[str, str] | None] = []
    for name in rows["utterance_id"]:
        samples = store.samples(name) if name in store else None
        read.append(samples)
        faults.append(("error", "not in the audio store") if samples is None else unfit(samples))
    heard = [i for i, fault in enumerate(faults) if fault is None]
    for i, score in zip(heard, voice.scores([read[i] for i in heard], MIN_VOICE), strict=True):
        if score < MIN_VOICE:
            faults[i] = ("silence", f"no voice found ({score:.2f})")
    return [
        Prepared(*key, [] if fault else cut_long(samples), fault)
        for key, samples, fault in zip(_keys(rows), read, faults, strict=True)
    ]


def _keys(rows: pd.DataFrame) -> Iterable[tuple[str, str, str]]:
    columns = ["utterance_id", "language", "audio_digest"]
    return rows[columns].itertuples(index=False, name=None)


def _rows(window: Sequence[Prepared], outcomes: Iterable[Outcome]) -> Iterator[Row]:
    outcomes = iter(outcomes)
    for item in window:
        found = [next(outcomes) for _ in item.pieces]
        said = ("", *item.fault) if item.fault else _judge(found, item.pieces)
        yield Row(item.utterance_id, *said, item.language, item.audio_digest)


def _judge(outcomes: list[Outcome], pieces: list[Samples]) -> tuple[str, str, str]:
    """Text, status and note of an utterance from the outcomes of its pieces."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if failures:
        reason = " ".join(str(failures[0]).split())
        return "", "error", f"{type(failures[0]).__name__}: {reason}"[:NOTE_LENGTH]
    text = " ".join(filter(None, map(clean, outcomes)))
    if not text:
        return "", "empty", "no words recognised"
    doubt = why_suspect(text, sum(map(len, pieces)) / SAMPLE_RATE)
    cut = f"{len(outcomes)} pieces" if len(outcomes) > 1 else ""
    return text, "suspect" if doubt else "ok", "; ".join(filter(None, [doubt, cut]))


def _check_errors(errors: Sequence[Row], utterances: int, settings: Settings) -> None:
    if len(errors) > settings.max_error_rate * utterances:
        offenders = name_some([f"{row.utterance_id} ({row.note})" for row in errors])
        raise UserError(
            f"{len(errors)} of {utterances} utterances could not be transcribed, more than "
            f"asr.{settings.name}.max_error_rate {settings.max_error_rate:g} allows: {offenders}. "
            "Mend their audio, or raise the rate; what is done is kept, and the next run tries "
            "only the rest."
        )
