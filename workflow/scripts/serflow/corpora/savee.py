"""SAVEE, the Surrey Audio-Visual Expressed Emotion database: its audio.

What      480 English utterances, 44.1 kHz: four men, postgraduates and researchers aged 27 to 31,
          speak TIMIT sentences in seven emotions: 15 each, and 30 neutral ones.
Who       P. Jackson and S. Haq, University of Surrey. S. Haq and P. J. B. Jackson: Speaker-dependent
          audio-visual emotion recognition. AVSP 2009, 53-58.
Licence   By registration, for research only.
Where     http://kahlan.eps.surrey.ac.uk/savee/ (AudioData/: DC/, JE/, JK/, KL/).
Holes     No women, four speakers. By design an emotion has three sentences common to all, two of
          its own and ten generic ones, and neutral repeats the common and the emotions' own: folds
          that are disjoint in speakers share sentences. Which file holds which sentence comes with
          no list that we could check, so sentence and text are left open, and an audit of repeated
          sentences cannot see them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates

CORPUS = "savee"
HOLDS = "SAVEE's AudioData (DC/a01.wav ...) or ALL (DC_a01.wav ...)"

SPEAKERS = ("DC", "JE", "JK", "KL")
EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}

PER_SPEAKER = {label: 30 if label == "neutral" else 15 for label in EMOTIONS.values()}
COUNTS = {label: n * len(SPEAKERS) for label, n in PER_SPEAKER.items()}

_NAME = re.compile(r"(?:(?P<speaker>[A-Z]{2})_)?(?P<emotion>[a-z]{1,2})(?P<number>\d\d)")


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        A folder with the files anywhere below: `DC/a01.wav` or `DC_a01.wav`.
    subset : bool
        Accept a part of the corpus: the names and counts are not compared with the published ones.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`; `label`, `split`, `sentence_id` and `text`
        are missing. Ids have the speaker in front in both layouts: `savee/DC_a01`.

    Raises
    ------
    UserError
        No such folder, no files, names outside the scheme, an utterance that is there twice, or
        (unless `subset`) other files or counts than published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    files = gates.files_below(CORPUS, root, ".wav", HOLDS)
    rows = gates.parse_all(CORPUS, files, parse)
    for row, file in zip(rows, files, strict=True):
        row["path"] = file.relative_to(root).as_posix()
    names = [row["utterance_id"].removeprefix(f"{CORPUS}/") for row in rows]
    gates.check_once(CORPUS, root, files, names)
    if not subset:
        speakers = dict.fromkeys(SPEAKERS, sum(PER_SPEAKER.values()))
        groups = {
            "class": ([row["label_raw"] for row in rows], COUNTS),
            "speaker": ([row["speaker"] for row in rows], speakers),
        }
        gates.check_complete(CORPUS, names, published(), groups)
    return gates.listing(CORPUS, rows)


def parse(file: Path) -> dict[str, Any]:
    """Read speaker and emotion from DC_a01.wav, or from DC/a01.wav.

    Raises
    ------
    ValueError
        The name does not follow the scheme.
    """
    match = _NAME.fullmatch(file.stem)
    if not match:
        raise ValueError("not DC_a01, or a01 in a folder DC: speaker, emotion, number")
    speaker, folder = match["speaker"] or file.parent.name, file.parent.name
    if folder in SPEAKERS and folder != speaker:
        raise ValueError(f"in the folder of speaker {folder}")
    if speaker not in SPEAKERS:
        raise ValueError(f"no speaker '{speaker}'")
    if match["emotion"] not in EMOTIONS:
        raise ValueError(f"no emotion '{match['emotion']}'")
    label = EMOTIONS[match["emotion"]]
    if not 1 <= int(match["number"]) <= PER_SPEAKER[label]:
        raise ValueError(f"{label} is numbered 01 to {PER_SPEAKER[label]}")
    return {
        "utterance_id": f"{CORPUS}/{speaker}_{match['emotion']}{match['number']}",
        "speaker": speaker,
        "gender": "male",
        "language": "en",
        "label_raw": label,
    }


def published() -> set[str]:
    """Names of the 480 published utterances, speaker in front."""
    return {
        f"{speaker}_{code}{number:02}"
        for speaker in SPEAKERS
        for code, label in EMOTIONS.items()
        for number in range(1, PER_SPEAKER[label] + 1)
    }
