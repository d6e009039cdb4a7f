"""MUSAN, a corpus of music, speech and noise to mix into speech.

What      2,016 files, 16 kHz mono, 109 hours: 930 noises (technical and ambient, from Free Sound
          and Sound Bible), 660 pieces of music and 426 of speech (books read in twelve languages,
          and hearings of US government bodies).
Who       D. Snyder, G. Chen and D. Povey: MUSAN: A Music, Speech, and Noise Corpus.
          arXiv:1510.08484, 2015.
Licence   CC BY 4.0 as a whole; single files are public domain or under Creative Commons, named in
          each folder's LICENSE.
Where     https://www.openslr.org/17 (musan.tar.gz, 11,086,114,085 bytes).
Holes     The paper counts 929 noises, the archive holds 930. Some noises hold voices, some music
          sings. 843 of the noises are the point-source noises of RIRS_NOISES as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some

CORPUS = "musan"
HOLDS = "music/, noise/ and speech/ of musan.tar.gz"

COUNTS = {"noise": 930, "music": 660, "speech": 426}


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that holds `music`, `noise` and `speech`, or the one above (`musan`).
    subset : bool
        Accept a part of the corpus: counts are not compared with the published ones.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`. `label_raw` is the kind (noise, music,
        speech), `style` the collection that the file is from (free-sound, librivox).

    Raises
    ------
    UserError
        No such folder, files of none of the three kinds, or (unless `subset`) other counts than
        published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    base = root / CORPUS if (root / CORPUS).is_dir() else root
    files = gates.files_below(CORPUS, base, ".wav", HOLDS)
    strays = [file for file in files if file.relative_to(base).parts[0] not in COUNTS]
    if strays:
        raise UserError(
            f"corpus '{CORPUS}': {len(strays)} of {len(files)} files are not in music/, noise/ or "
            f"speech/ of {base}: {name_some(strays)}. {gates.point_to(CORPUS, HOLDS)}"
        )
    rows = [parse(file, base) for file in files]
    gates.check_once(CORPUS, root, files, [row["utterance_id"] for row in rows])
    if not subset:
        stems = [file.stem for file in files]
        gates.check_complete(
            CORPUS, stems, stems, {"kind": ([row["label_raw"] for row in rows], COUNTS)}
        )
    for row, file in zip(rows, files, strict=True):
        row["path"] = file.relative_to(root).as_posix()
    return gates.listing(CORPUS, rows)


def parse(file: Path, base: Path) -> dict[str, Any]:
    """Read kind and collection from a place such as noise/free-sound/noise-free-sound-0000.wav."""
    kind, *collection = file.relative_to(base).parts[:-1]
    return {
        "utterance_id": f"{CORPUS}/{file.stem}",
        "label_raw": kind,
        "style": collection[0] if collection else None,
    }
