"""EmoDB, the Berlin Database of Emotional Speech.

What      535 German utterances, 16 kHz mono: ten actors (five women) speak ten sentences of no
          emotional content in seven emotions, in an anechoic chamber.
Who       F. Burkhardt, A. Paeschke, M. Rolfes, W. F. Sendlmeier and B. Weiss: A Database of German
          Emotional Speech. Interspeech 2005. doi:10.21437/Interspeech.2005-446. TU Berlin.
Licence   Free to download; the site asks for a citation and states no licence. A copy deposited at
          Zenodo (record 17651657) carries its own terms.
Where     http://emodb.bilderbar.info (download.zip: wav/, erkennung.txt and phonetic labels).
Holes     Chosen from 816 recordings by 20 listeners (at least 80 % recognised, 60 % natural), so
          classes are uneven and some speakers have no disgust. 42 released files are below 60 %
          natural all the same, and one that passes was not released. Every sentence is spoken by
          every speaker: folds that are disjoint in speakers share all sentences.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some

CORPUS = "emodb"
VOTES = "erkennung.txt"
HOLDS = "wav/ and erkennung.txt of EmoDB's download.zip"

SPEAKERS = {  # gender, age
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
EMOTIONS = {
    "W": "anger",  # Wut, Aerger
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happiness",  # Freude
    "T": "sadness",  # Trauer
    "N": "neutral",
}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute Abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

COUNTS = {
    "anger": 127,
    "boredom": 81,
    "disgust": 46,
    "fear": 69,
    "happiness": 71,
    "sadness": 62,
    "neutral": 79,
}
LEAST_RECOGNITION, LEAST_NATURALNESS = 0.8, 0.6
RELEASED_BELOW = """
    03a05Aa 03a05Tc 03b01Td 03b02Tb 03b10Ec 08a01Ab 08a01Fd 08a02Ac 09a02Eb 09a05Tb 09b02Tb 09b03Fd
    10a01Ac 10a02Fa 10a04Fd 10a05Aa 10a05Tb 10a07Ad 11a01Aa 11a02Fb 11a04Nd 11b01Eb 11b01Lb 12a05Ab
    12a05Ta 12b02Ea 12b03Ta 12b09Ac 12b09Td 12b10Ac 13b09Ec 14a01Ea 14a02La 14a04Ed 15a04Ac 15b02Aa
    15b02Tc 16a04Ab 16a05Fc 16a07Fa 16b09Ab 16b10Eb
"""
WITHHELD = "14b09Tb"

_NAME = re.compile(r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[A-Z])(?P<version>[a-z])")
_VOTE = re.compile(r"\d+\s+(?P<stem>\w+)\.wav\s+(?P<recognition>[\d,]+)\s+(?P<naturalness>[\d,]+)")


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that holds `wav` and `erkennung.txt`, or that `wav` folder itself.
    subset : bool
        Accept a part of the corpus: the names and counts are not compared with the published ones.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`, `label` and `split` are missing,
        `recognition` and `naturalness` are shares of listeners in [0, 1].

    Raises
    ------
    UserError
        No such folder, no files, names outside the scheme, no listeners' judgements for a file,
        or (unless `subset`) other files or class counts than published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    wav = root / "wav" if (root / "wav").is_dir() else root
    files = gates.files_with_suffix(CORPUS, wav, ".wav", HOLDS)
    rows = gates.parse_all(CORPUS, files, parse)
    beside = root if (root / VOTES).exists() else wav.parent
    judged = read_judgements(beside / VOTES)
    unjudged = [file.name for file in files if file.stem not in judged]
    if unjudged:
        raise UserError(
            f"corpus '{CORPUS}': {VOTES} has no line for {len(unjudged)} of {len(files)} files: "
            f"{name_some(unjudged, 20)}. Take them out, or unpack {VOTES} again."
        )
    for row, file in zip(rows, files, strict=True):
        row["path"] = file.relative_to(root).as_posix()
        row["recognition"], row["naturalness"] = judged[file.stem]
    if not subset:
        gates.check_complete(
            CORPUS,
            [file.stem for file in files],
            released(judged),
            {"class": ([row["label_raw"] for row in rows], COUNTS)},
        )
    return gates.listing(CORPUS, rows)


def parse(file: Path) -> dict[str, Any]:
    """Read speaker, sentence and emotion from a name such as 03a01Fa.wav.

    The last letter counts the takes of one sentence in one emotion; the stem keeps it.

    Raises
    ------
    ValueError
        The name does not follow the scheme.
    """
    match = _NAME.fullmatch(file.stem)
    if not match:
        raise ValueError("not speaker, sentence, emotion, version as in 03a01Fa")
    for part, known in (("speaker", SPEAKERS), ("sentence", SENTENCES), ("emotion", EMOTIONS)):
        if match[part] not in known:
            raise ValueError(f"no {part} '{match[part]}'")
    return {
        "utterance_id": f"{CORPUS}/{file.stem}",
        "speaker": match["speaker"],
        "gender": SPEAKERS[match["speaker"]][0],
        "language": "de",
        "sentence_id": match["sentence"],
        "text": SENTENCES[match["sentence"]],
        "label_raw": EMOTIONS[match["emotion"]],
    }


def read_judgements(path: Path) -> dict[str, tuple[float, float]]:
    """Read the listeners' judgements of all 816 recordings.

    `erkennung.txt` is Latin-1: number, file, % recognised, % natural, separated by tabs, with
    decimal commas and padded with no-break spaces.

    Returns
    -------
    dict of str to (recognition, naturalness)
        Shares in [0, 1] by file stem.

    Raises
    ------
    UserError
        The file is missing, or a line cannot be read.
    """
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise UserError(
            f"corpus '{CORPUS}': {path}: {error.strerror}. The listeners' judgements are part of "
            f"download.zip. {gates.point_to(CORPUS, HOLDS)}"
        ) from None
    votes = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        match = _VOTE.fullmatch(line.strip())
        if not match:
            raise UserError(
                f"corpus '{CORPUS}': {path}, line {number}: expected number, file, % recognised, "
                f"% natural; found {line.strip()!r}. Unpack it again from download.zip."
            )
        votes[match["stem"]] = (_share(match["recognition"]), _share(match["naturalness"]))
    return votes


def _share(percent: str) -> float:
    return round(float(percent.replace(",", ".")) / 100, 6)


def released(votes: dict[str, tuple[float, float]]) -> set[str]:
    """Stems of the 535 published utterances, from the judgements of all recordings."""
    passed = {
        stem
        for stem, (recognition, naturalness) in votes.items()
        if recognition >= LEAST_RECOGNITION and naturalness >= LEAST_NATURALNESS
    }
    return (passed | set(RELEASED_BELOW.split())) - set(WITHHELD.split())
