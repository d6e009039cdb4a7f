"""One shard of a corpus to text: every utterance gets its row, whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd
from tqdm import tqdm

from serflow.asr.batches import batches_by_seconds, transcribe_halving
from serflow.asr.engine import Settings, Transcriber
from serflow.asr.journal import Journal, Row, checksum, journal_key
from serflow.asr.segments import Samples, cut_long, unfit
from serflow.asr.text import clean, why_suspect
from serflow.audio import SAMPLE_RATE
from serflow.errors import UserError, name_some

NOTE_LENGTH = 200


class Audio(Protocol):
    """What is needed of `serflow.audio.AudioStore`."""

    def __contains__(self, utterance_id: str) -> bool: ...

    def samples(self, utterance_id: str) -> Samples:
        """float32 samples, mono, 16 kHz."""

    def seconds(self, utterance_id: str) -> float:
        """Duration, without touching the samples."""


def transcribe_shard(
    store: Audio,
    utterance_ids: Sequence[str],
    load: Callable[[Settings], Transcriber],
    journal_path: str | Path,
    settings: Settings,
) -> pd.DataFrame:
    """Transcribe utterances.

    Parameters
    ----------
    store : AudioStore
    utterance_ids : sequence of str
    load : callable
        `serflow.asr.engine.load_engine`. It is called before any audio is read, and not at all
        when the journal holds everything.
    journal_path : path
        Where rows go as they come. A killed job finds them there; the caller removes the file once
        it has written the table.
    settings : Settings

    Returns
    -------
    DataFrame
        `tables.TRANSCRIPTS`, one row for each utterance in the given order.

    Raises
    ------
    UserError
        The engine refuses model or language, or more utterances ended as errors than
        `settings.max_error_rate` allows; the first are named.
    """
    journal = Journal(journal_path, journal_key(settings))
    engine: Transcriber | None = None
    if any(name not in journal.rows for name in utterance_ids):
        engine = load(settings)
    outdated = [name for name in utterance_ids if not _still_valid(journal, store, name)]
    absent = [name for name in outdated if name not in store]
    journal.add(Row(name, "", "error", "not in the audio store", 0) for name in absent)
    lengths = [(name, store.seconds(name)) for name in outdated if name in store]
    if lengths and engine is None:
        engine = load(settings)
    batches = batches_by_seconds(lengths, settings.batch_seconds)
    with tqdm(total=len(lengths), desc="transcribe", unit="utt") as progress:
        for batch in batches:
            journal.add(_transcribe_batch(engine, [(n, store.samples(n)) for n in batch]))
            progress.update(len(batch))
    rows = [journal.rows[name] for name in utterance_ids]
    _check_errors(rows, settings.max_error_rate)
    frame = pd.DataFrame(rows, columns=["utterance_id", "text", "status", "note", "audio"])
    return frame.drop(columns="audio").assign(asr=settings.name)


def _still_valid(journal: Journal, store: Audio, name: str) -> bool:
    row = journal.rows.get(name)
    return row is not None and name in store and row.audio == checksum(store.samples(name))


def _transcribe_batch(engine: Transcriber, batch: list[tuple[str, Samples]]) -> list[Row]:
    found: dict[str, tuple[str, str, str]] = {}
    pieces: dict[str, list[Samples]] = {}
    for name, samples in batch:
        if fault := unfit(samples):
            found[name] = ("", *fault)
        else:
            pieces[name] = cut_long(samples)
    inputs = [piece for parts in pieces.values() for piece in parts]
    outcomes = iter(transcribe_halving(engine, inputs) if inputs else [])
    for name, parts in pieces.items():
        seconds = sum(map(len, parts)) / SAMPLE_RATE
        found[name] = _judge([next(outcomes) for _ in parts], seconds)
    return [Row(name, *found[name], checksum(samples)) for name, samples in batch]


def _judge(outcomes: list[str | Exception], seconds: float) -> tuple[str, str, str]:
    """Text, status and note of an utterance from the outcomes of its pieces."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if failures:
        reason = " ".join(str(failures[0]).split())
        return "", "error", f"{type(failures[0]).__name__}: {reason}"[:NOTE_LENGTH]
    text = " ".join(filter(None, map(clean, outcomes)))
    if not text:
        return "", "empty", "no words recognised"
    doubt = why_suspect(text, seconds)
    cut = f"{len(outcomes)} pieces" if len(outcomes) > 1 else ""
    return text, "suspect" if doubt else "ok", "; ".join(filter(None, [doubt, cut]))


def _check_errors(rows: list[Row], max_error_rate: float) -> None:
    errors = [row for row in rows if row.status == "error"]
    if len(errors) > max_error_rate * len(rows):
        offenders = name_some([f"{row.utterance_id} ({row.note})" for row in errors])
        raise UserError(
            f"{len(errors)} of {len(rows)} utterances could not be transcribed, more than "
            f"asr.max_error_rate {max_error_rate:g} allows: {offenders}. Mend their audio, or raise "
            "the rate; what is done is kept, and the next run tries only these again."
        )
