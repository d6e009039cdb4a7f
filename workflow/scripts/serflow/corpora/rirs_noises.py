"""RIRS_NOISES: simulated and measured room impulse responses, and noises, to reverberate speech.

What      61,260 files, 16 kHz: 60,000 simulated room impulse responses (200 rooms of each of three
          sizes, 100 positions a room), 325 measured ones (RWCP 182, AIR 107, REVERB 2014 36), 92
          isotropic noises measured beside them, and 843 point-source noises.
Who       T. Ko, V. Peddinti, D. Povey, M. L. Seltzer and S. Khudanpur: A Study on Data Augmentation
          of Reverberant Speech for Robust Speech Recognition. ICASSP 2017.
          doi:10.1109/ICASSP.2017.7953152.
Licence   Apache 2.0 as a whole.
Where     https://www.openslr.org/28 (rirs_noises.zip, 1,311,166,223 bytes).
Holes     Measured responses and isotropic noises lie in one folder and differ by name only. They
          come from arrays: averaging the channels of a response smears its direct sound, so the
          first channel alone is taken. The point-source noises are MUSAN's 843 from Free Sound.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates

CORPUS = "rirs_noises"
HOLDS = "simulated_rirs/, real_rirs_isotropic_noises/ and pointsource_noises/ of rirs_noises.zip"
ARCHIVE = "RIRS_NOISES"

ROOMS = {"smallroom": "small room", "mediumroom": "medium room", "largeroom": "large room"}
MEASURED, POINTS, SIMULATED = "real_rirs_isotropic_noises", "pointsource_noises", "simulated_rirs"
COLLECTIONS = {"RWCP": "RWCP", "air": "AIR", "RVB2014": "REVERB 2014"}

COUNTS = {
    "simulated_rir": 60000,
    "real_rir": 325,
    "isotropic_noise": 92,
    "point_source_noise": 843,
}
PER_ROOM = dict.fromkeys(ROOMS.values(), 20000)


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that holds `simulated_rirs` and the others, or the one above (`RIRS_NOISES`).
    subset : bool
        Accept a part of the corpus: counts are not compared with the published ones.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`. `label_raw` is the kind, `style` the size
        of the simulated room or the collection of a measured file, `session` the room of a
        simulated response. `channel` is 0 for measured responses and isotropic noises.

    Raises
    ------
    UserError
        No such folder, names outside the scheme, or (unless `subset`) other counts than published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    base = root / ARCHIVE if (root / ARCHIVE).is_dir() else root
    files = gates.files_below(CORPUS, base, ".wav", HOLDS)
    rows = gates.parse_all(CORPUS, files, parse)
    gates.check_once(CORPUS, root, files, [row["utterance_id"] for row in rows])
    if not subset:
        ids = [row["utterance_id"] for row in rows]
        rooms = [row["style"] for row in rows if row["label_raw"] == "simulated_rir"]
        kinds = [row["label_raw"] for row in rows]
        groups = {"kind": (kinds, COUNTS), "simulated": (rooms, PER_ROOM)}
        gates.check_complete(CORPUS, ids, ids, groups)
    for row, file in zip(rows, files, strict=True):
        row["path"] = file.relative_to(root).as_posix()
    return gates.listing(CORPUS, rows)


def parse(file: Path) -> dict[str, Any]:
    """Read kind and room or collection from the folders that a file is in, and its name.

    Raises
    ------
    ValueError
        The place is none of the corpus's.

    Examples
    --------
    >>> parse(Path("simulated_rirs/smallroom/Room001/Room001-00001.wav"))["style"]
    'small room'
    >>> parse(Path("real_rirs_isotropic_noises/RWCP_type5_noise_cirline_ofc_1.wav"))["label_raw"]
    'isotropic_noise'
    """
    *_, part, size, folder = ("", "", "", *file.parts[:-1])
    row: dict[str, Any] = {"utterance_id": f"{CORPUS}/{file.stem}"}
    if part == SIMULATED and size in ROOMS:
        # Rooms of all sizes are numbered alike, so the size is a part of the name.
        return {
            "utterance_id": f"{CORPUS}/{size}/{file.stem}",
            "label_raw": "simulated_rir",
            "style": ROOMS[size],
            "session": f"{size}/{folder}",
        }
    if folder == MEASURED:
        collection = file.stem.split("_")[0]
        if collection not in COLLECTIONS:
            raise ValueError(f"begins with none of {', '.join(COLLECTIONS)}")
        kind = "isotropic_noise" if "_noise_" in file.stem else "real_rir"
        return {**row, "label_raw": kind, "style": COLLECTIONS[collection], "channel": 0}
    if folder == POINTS:
        return {**row, "label_raw": "point_source_noise"}
    raise ValueError(f"not in {SIMULATED}/<size>/<room>/, {MEASURED}/ or {POINTS}/")
