"""EmoSPeech 2024, the Spanish emotion task of IberLEF: texts, and audio where you have it.

What      3,750 Spanish utterances from political and public speech on YouTube, with transcripts:
          3,000 to train on and 750 to predict, in six emotions.
Who       R. Pan, J. A. García-Díaz, M. Á. Rodríguez-García, F. García-Sánchez and R.
          Valencia-García: Overview of EmoSPeech at IberLEF 2024: Multimodal Speech-text Emotion
          Recognition in Spanish. Procesamiento del Lenguaje Natural 73, 2024.
Licence   For the participants of the task; the audio needs a key from the organisers.
Where     https://codalab.lisn.upsaclay.fr/competitions/17647 (train.csv, test.csv, audio as MP3).
Holes     No speaker is named: no fold can be disjoint in speakers. The 750 test labels are not in
          these files; all of them are inside the later Spanish MEACorpus, 600 in its training part,
          so a system that saw that corpus cannot be scored here. Fear has 23 utterances. Published
          folds shuffle the table's own order, which `position` keeps.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some

CORPUS = "emospeech2024"
HOLDS = "train.csv and test.csv of EmoSPeech 2024, and its audio if you have it"

COLUMNS = {"train": ("id", "label", "transcription"), "test": ("id", "transcription")}
AUDIO = (".mp3", ".wav", ".flac")

COUNTS = {"neutral": 1166, "disgust": 705, "anger": 399, "joy": 362, "sadness": 345, "fear": 23}
PER_SPLIT = {"train": 3000, "test": 750}


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that holds `train.csv` and `test.csv`, and the audio at any depth if there is
        any.
    subset : bool
        Accept a part of the corpus: one of the tables, other counts than published, audio of some
        utterances only.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root` and missing without audio, `label` and
        `speaker` are missing, `label_raw` as well in the test part. `position` is the row in its
        own table, from 0.

    Raises
    ------
    UserError
        No such folder or table, damaged rows, an id that is there twice, or (unless `subset`)
        other counts than published or audio of a part of a table.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    tables = [s for s in COLUMNS if not subset or (root / f"{s}.csv").exists()] or list(COLUMNS)
    rows = [row for split in tables for row in _read_table(root / f"{split}.csv", split)]
    stems = [row["utterance_id"].removeprefix(f"{CORPUS}/") for row in rows]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise UserError(
            f"corpus '{CORPUS}': {len(twice)} ids are there more than once in train.csv and "
            f"test.csv of {root}: {name_some(twice, 20)}. A test item must not be trained on: "
            "take the tables from the organisers again."
        )
    if not subset:
        groups = {
            "class": ([row["label_raw"] for row in rows if row["label_raw"]], COUNTS),
            "table": ([row["split"] for row in rows], PER_SPLIT),
        }
        gates.check_complete(CORPUS, stems, stems, groups)
    audio = _find_audio(root, set(stems))
    for row, stem in zip(rows, stems, strict=True):
        row["path"] = audio.get(stem)
    if not subset:
        _check_audio(root, rows)
    return gates.listing(CORPUS, rows)


def _read_table(path: Path, split: str) -> list[dict[str, Any]]:
    records: list[tuple[int, list[str]]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            for fields in reader:
                if fields:
                    records.append((reader.line_num, fields))
    except csv.Error as error:
        last = records[-1][0] if records else 0
        raise UserError(
            f"corpus '{CORPUS}': {path}: {error}, after line {last}: look for a quote that is "
            "not closed, or take the table from the organisers again."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        fault = getattr(error, "strerror", None) or error
        raise UserError(
            f"corpus '{CORPUS}': {path}: {fault}. {gates.point_to(CORPUS, HOLDS)}"
        ) from None
    header = records[0][1] if records else []
    missing = [column for column in COLUMNS[split] if column not in header]
    if missing:
        raise UserError(
            f"corpus '{CORPUS}': {path} lacks the columns {name_some(missing)}; it has "
            f"{name_some(header or ['none'])}. Take it from the organisers again."
        )
    _check_fields(path, header, records[1:])
    rows = []
    for position, (line, fields) in enumerate(records[1:]):
        record = dict(zip(header, fields, strict=True))
        label = record["label"] if split == "train" else None
        if not record["id"] or (split == "train" and label not in COUNTS):
            found = ",".join(str(value) for value in record.values())
            raise UserError(
                f"corpus '{CORPUS}': {path}, line {line}: expected "
                f"{', '.join(COLUMNS[split])} with a label of {', '.join(COUNTS)}; found "
                f"{found[:120]!r}. Take it from the organisers again."
            )
        rows.append(
            {
                "utterance_id": f"{CORPUS}/{record['id'].removesuffix('.mp3')}",
                "language": "es",
                "text": record["transcription"].strip() or None,
                "label_raw": label,
                "split": split,
                "position": position,
            }
        )
    return rows


def _check_fields(path: Path, header: list[str], records: list[tuple[int, list[str]]]) -> None:
    """Refuse what a stray comma or quote does: it cuts a text, or swallows the rows after it."""
    odd = [
        f"line {line} ({fields[0]}: {len(fields)} fields)"
        if len(fields) != len(header)
        else f"line {line} ({fields[0]}: a line break)"
        for line, fields in records
        if len(fields) != len(header) or any("\n" in field for field in fields)
    ]
    if odd:
        raise UserError(
            f"corpus '{CORPUS}': {path}: {len(odd)} rows are not {len(header)} fields in one line: "
            f"{name_some(odd, 20)}. Put texts with commas in quotes, or take the table from the "
            "organisers again."
        )


def _find_audio(root: Path, stems: set[str]) -> dict[str, str]:
    """Paths below `root` of the utterances that have audio, by stem."""
    files = sorted(
        file
        for file in gates.visible_files(root)
        if file.name.lower().endswith(AUDIO) and file.stem in stems
    )
    gates.check_once(CORPUS, root, files, [file.stem for file in files])
    return {file.stem: file.relative_to(root).as_posix() for file in files}


def _check_audio(root: Path, rows: list[dict[str, Any]]) -> None:
    """Refuse a table of which a part has audio: most likely an archive unpacked half."""
    for split in PER_SPLIT:
        part = [row for row in rows if row["split"] == split]
        silent = [row["utterance_id"] for row in part if row["path"] is None]
        if 0 < len(silent) < len(part):
            raise UserError(
                f"corpus '{CORPUS}': {len(silent)} of {len(part)} utterances of {split}.csv have "
                f"no audio below {root}, the others have: {name_some(silent, 20)}. Unpack the "
                "audio again, or set `subset: true` for this corpus in the study to take these "
                "as text alone."
            )
