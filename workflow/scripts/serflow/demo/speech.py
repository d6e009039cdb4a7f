"""The demo corpus as a folder: `wav/<id>.wav` and `utterances.csv`."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

from serflow.demo.cues import plan
from serflow.demo.espeak import Utterance, render
from serflow.files import write_text

COLUMNS = (
    "id",
    "speaker",
    "gender",
    "session",
    "style",
    "sentence_id",
    "text",
    "emotion",
    "arousal",
    "valence",
    "dominance",
    "split",
)


def synthesise(folder: str | Path, seed: int, workers: int | None = None) -> None:
    """Speak the corpus of `seed` into `folder`; the same seed gives the same bytes.

    `utterances.csv` is written last, so that a folder with a table is a whole corpus. An earlier
    corpus in `folder` is replaced.
    """
    folder = Path(folder)
    (folder / "utterances.csv").unlink(missing_ok=True)
    shutil.rmtree(folder / "wav", ignore_errors=True)
    (folder / "wav").mkdir(parents=True)
    planned = plan(seed)
    render(
        (
            Utterance(folder / "wav" / f"{p.utterance}.wav", p.text, p.manner, (seed << 16) + i)
            for i, p in enumerate(planned)
        ),
        workers,
    )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for p in planned:
        writer.writerow(
            [
                p.utterance,
                p.speaker.name,
                p.speaker.gender,
                p.session,
                p.style,
                p.sentence_id,
                p.text,
                p.emotion,
                p.arousal,
                p.valence,
                p.dominance,
                p.speaker.split,
            ]
        )
    write_text(folder / "utterances.csv", table.getvalue())
