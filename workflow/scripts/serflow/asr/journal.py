"""Transcripts as they come, so that a killed job goes on where it was."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from serflow.asr.engine import Settings
from serflow.asr.segments import Samples
from serflow.files import write_text


@dataclass(frozen=True)
class Row:
    """Outcome of one utterance, and a checksum of the audio that it belongs to."""

    utterance_id: str
    text: str
    status: str
    note: str
    audio: int


def checksum(samples: Samples) -> int:
    """CRC-32 of the samples."""
    return zlib.crc32(samples.tobytes())


def journal_key(settings: Settings) -> str:
    """Digest of what a text depends on besides its audio: the model and how it is asked.

    A local model counts with its files' names, sizes and times: one that was replaced is another.
    """
    model = Path(settings.model)
    files = sorted(model.rglob("*")) if model.is_dir() else [model]
    found = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    said = [settings.engine, settings.model, settings.language, settings.pnc, found]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


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
        head = json.dumps({"key": key}) + "\n"
        # Written anew: without errors and without the half line of a killed job.
        write_text(self.path, head + "".join(map(_line, self.rows.values())))

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows and hand them to the system."""
        rows = list(rows)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(map(_line, rows))
        self.rows.update((row.utterance_id, row) for row in rows)


def _line(row: Row) -> str:
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


def _read(path: Path, key: str) -> Iterable[Row]:
    if not path.exists():
        return
    head, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if head != json.dumps({"key": key}):
        return
    for line in lines:
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError):
            continue  # cut off when the job was killed
        if row.status != "error":
            yield row
