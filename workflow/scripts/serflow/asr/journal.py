"""Transcripts as they come, so that a killed job goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from serflow.asr.engine import Settings
from serflow.digests import canonical, digest
from serflow.files import write_text


@dataclass(frozen=True)
class Row:
    """Outcome of one utterance, and what it belongs to: its language and its samples' digest."""

    utterance_id: str
    text: str
    status: str
    note: str
    language: str
    audio_digest: str


def journal_key(settings: Settings) -> str:
    """Digest of what a text depends on besides its audio: the model and how it is asked.

    A local model counts with its files' names, sizes and times: one that was replaced is another.
    """
    model = Path(settings.model)
    files = sorted(model.rglob("*")) if model.is_dir() else [model]
    found = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return digest(canonical([settings.engine, settings.model, settings.pnc, settings.beam, found]))


class Journal:
    """A file of JSON lines: the key, then a line for each utterance.

    Parameters
    ----------
    path : path
        What it holds is kept if its first line is the same key. Errors are not kept: they get
        another try.
    key : str

    Attributes
    ----------
    rows : dict of str to Row
        By utterance id.
    """

    def __init__(self, path: str | Path, key: str) -> None:
        self.path = Path(path)
        self.rows = {row.utterance_id: row for row in _read(self.path, key)}
        # Written anew: without errors and without the half line of a killed job.
        write_text(self.path, _head(key) + "".join(map(_line, self.rows.values())))

    def holds(self, utterance_id: str, language: str, audio_digest: str) -> bool:
        """Whether there is a row of this utterance, and it is of this language and audio."""
        row = self.rows.get(utterance_id)
        return row is not None and (row.language, row.audio_digest) == (language, audio_digest)

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows and hand them to the system."""
        rows = list(rows)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(map(_line, rows))
        self.rows.update((row.utterance_id, row) for row in rows)


def _head(key: str) -> str:
    return json.dumps({"key": key}) + "\n"


def _line(row: Row) -> str:
    return json.dumps(vars(row), ensure_ascii=False) + "\n"


def _read(path: Path, key: str) -> Iterator[Row]:
    if not path.exists():
        return
    head, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if head + "\n" != _head(key):
        return
    for line in lines:
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError):
            continue  # cut off when the job was killed
        if row.status != "error":
            yield row
