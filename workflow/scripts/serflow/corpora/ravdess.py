"""RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song: the speech, as audio.

What      1,440 English utterances, 48 kHz, nearly all mono: 24 professional actors (twelve women)
          speak two sentences twice each in eight emotions, seven of them in two intensities.
Who       S. R. Livingstone and F. A. Russo: The Ryerson Audio-Visual Database of Emotional Speech
          and Song (RAVDESS). PLoS ONE 13(5), 2018. doi:10.1371/journal.pone.0196391.
Licence   CC BY-NC-SA 4.0; the authors sell commercial licences.
Where     doi:10.5281/zenodo.1188976 (Audio_Speech_Actors_01-24.zip, 208,468,073 bytes, md5
          bc696df654c87fed845eb13823edef8a: Actor_01/ to Actor_24/).
Holes     Two sentences for everything: folds that are disjoint in speakers share both, and a model
          may learn them. Neutral has no strong intensity and half as many utterances. A few files
          are stereo (03-01-02-01-01-02-01, 03-01-08-01-02-02-01). Song and video are other
          archives of the same record, and are refused.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates

CORPUS = "ravdess"
HOLDS = "Actor_01 to Actor_24 of RAVDESS's Audio_Speech_Actors_01-24.zip"

AUDIO_ONLY, SPEECH = "03", "01"
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
REPETITIONS = ("01", "02")
ACTORS = {f"{n:02}": "male" if n % 2 else "female" for n in range(1, 25)}

COUNTS = {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS.values()}
PER_ACTOR, PER_GENDER, PER_STATEMENT = 60, 720, 720

_NAME = re.compile(
    r"(?P<modality>\d\d)-(?P<channel>\d\d)-(?P<emotion>\d\d)-(?P<intensity>\d\d)"
    r"-(?P<statement>\d\d)-(?P<repetition>\d\d)-(?P<actor>\d\d)"
)


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that holds `Actor_01` to `Actor_24`, or all the files.
    subset : bool
        Accept a part of the corpus: the names and counts are not compared with the published ones.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`, `label` and `split` are missing.

    Raises
    ------
    UserError
        No such folder, no files, names outside the scheme, song or video, a file that is there
        twice, or (unless `subset`) other files or counts than published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    files = gates.files_below(CORPUS, root, (".wav", ".mp4"), HOLDS)
    rows = gates.parse_all(CORPUS, files, parse)
    for row, file in zip(rows, files, strict=True):
        row["path"] = file.relative_to(root).as_posix()
    stems = [file.stem for file in files]
    gates.check_once(CORPUS, root, files, stems)
    if not subset:
        groups = {
            "class": ([row["label_raw"] for row in rows], COUNTS),
            "actor": ([row["speaker"] for row in rows], dict.fromkeys(ACTORS, PER_ACTOR)),
            "gender": (
                [row["gender"] for row in rows],
                dict.fromkeys(("female", "male"), PER_GENDER),
            ),
            "statement": (
                [row["sentence_id"] for row in rows],
                dict.fromkeys(STATEMENTS, PER_STATEMENT),
            ),
        }
        gates.check_complete(CORPUS, stems, published(), groups)
    return gates.listing(CORPUS, rows)


def parse(file: Path) -> dict[str, Any]:
    """Read emotion, intensity, statement and actor from a name such as 03-01-06-01-02-01-12.wav.

    The last number but one counts the repetitions; the stem keeps it.

    Raises
    ------
    ValueError
        The name does not follow the scheme, or is that of a song or a video.
    """
    match = _NAME.fullmatch(file.stem)
    if not match:
        raise ValueError("not seven numbers of two digits as in 03-01-06-01-02-01-12")
    if match["modality"] != AUDIO_ONLY or file.suffix.lower() != ".wav":
        raise ValueError(
            f"video, modality {match['modality']}; only audio, modality {AUDIO_ONLY}, is read"
        )
    if match["channel"] != SPEECH:
        raise ValueError(
            f"song, vocal channel {match['channel']}; only speech, channel {SPEECH}, is read"
        )
    for part, known in (
        ("emotion", EMOTIONS),
        ("intensity", INTENSITIES),
        ("statement", STATEMENTS),
        ("repetition", REPETITIONS),
        ("actor", ACTORS),
    ):
        if match[part] not in known:
            raise ValueError(f"no {part} '{match[part]}'")
    label, intensity = EMOTIONS[match["emotion"]], INTENSITIES[match["intensity"]]
    if (label, intensity) == ("neutral", "strong"):
        raise ValueError("neutral has no strong intensity")
    return {
        "utterance_id": f"{CORPUS}/{file.stem}",
        "speaker": match["actor"],
        "gender": ACTORS[match["actor"]],
        "language": "en",
        "sentence_id": match["statement"],
        "text": STATEMENTS[match["statement"]],
        "label_raw": label,
        "intensity": intensity,
    }


def published() -> set[str]:
    """Stems of the 1,440 published utterances: every combination but strong neutral."""
    parts = product(EMOTIONS, INTENSITIES, STATEMENTS, REPETITIONS, ACTORS)
    return {
        "-".join((AUDIO_ONLY, SPEECH, emotion, intensity, *rest))
        for emotion, intensity, *rest in parts
        if (EMOTIONS[emotion], INTENSITIES[intensity]) != ("neutral", "strong")
    }
