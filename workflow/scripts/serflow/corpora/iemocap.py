"""IEMOCAP, the Interactive Emotional Dyadic Motion Capture database: its segmented audio.

What      10,039 English utterances, 16 kHz, about twelve hours: ten actors (five women) in five
          sessions of one woman and one man each, who improvise scenarios and play three scripts.
          Three listeners name categories; the label is the one that most of them named, xxx where
          none has a majority. Valence, arousal and dominance are means of other listeners' ratings
          from 1 to 5.
Who       C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. N. Chang, S. Lee and
          S. S. Narayanan: IEMOCAP: Interactive emotional dyadic motion capture database. Language
          Resources and Evaluation 42, 2008. doi:10.1007/s10579-008-9076-6. USC SAIL.
Licence   By signed agreement with USC, for research; it may not be passed on.
Where     https://sail.usc.edu/iemocap/iemocap_release.htm (IEMOCAP_full_release: Session1 to 5).
Holes     A quarter of the utterances have no majority (xxx). Most studies take neu, ang, sad and
          hap with exc merged into it, 5,531 utterances: that map is the study's, labels here are as
          written. All sessions play the same scripts, so folds that are disjoint in speakers share
          sentences; only the script's part is known, not the sentence, and it is the sentence_id
          of the scripted half. Improvised scenarios repeat too, in other words, and have none.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some
from serflow.tables import VOTES

CORPUS = "iemocap"
HOLDS = "Session1 to Session5 of IEMOCAP_full_release"
RELEASE = "IEMOCAP_full_release"
EVALUATION, TRANSCRIPTS = "dialog/EmoEvaluation", "dialog/transcriptions"

GENDERS = {"F": "female", "M": "male"}
STYLES = {"impro": "improvised", "script": "scripted"}
CATEGORIES = {  # what the listeners' lines call a label
    "Anger": "ang",
    "Disgust": "dis",
    "Excited": "exc",
    "Fear": "fea",
    "Frustration": "fru",
    "Happiness": "hap",
    "Neutral": "neu",
    "Neutral state": "neu",
    "Other": "oth",
    "Sadness": "sad",
    "Surprise": "sur",
}

COUNTS = {
    "ang": 1103,
    "dis": 2,
    "exc": 1041,
    "fea": 40,
    "fru": 1849,
    "hap": 595,
    "neu": 1708,
    "oth": 3,
    "sad": 1084,
    "sur": 107,
    "xxx": 2507,
}
PER_SESSION = {"1": 1819, "2": 1811, "3": 2136, "4": 2103, "5": 2170}
# The four classes of most studies, hap and exc together: what published folds add up to.
FOUR = {"neu": "neu", "hap": "hap+exc", "exc": "hap+exc", "ang": "ang", "sad": "sad"}
FOUR_PER_SESSION = {
    f"{session} {label}": count
    for session, counts in {
        "1": (384, 278, 229, 194),
        "2": (362, 327, 137, 197),
        "3": (320, 286, 240, 305),
        "4": (258, 303, 327, 143),
        "5": (384, 442, 170, 245),
    }.items()
    for label, count in zip(("neu", "hap+exc", "ang", "sad"), counts, strict=True)
}
FOUR_PER_GENDER = {"female": 2649, "male": 2882}
FOUR_PER_STYLE = {"improvised": 2943, "scripted": 2588}

# The letter after the session says who wears the markers in this dialogue; who speaks is the last.
_NAME = re.compile(
    r"(?P<dialogue>Ses0(?P<session>[1-5])[FM]_(?P<style>impro|script)(?P<part>\w+?))"
    r"_(?P<gender>[FM])\d{3}"
)
# Evaluation files write valence, activation, dominance in this order (their first line says
# "[V, A, D]"); readers of MSP-Podcast's activation-first tables tend to swap the first two.
_LINE = re.compile(
    r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\s+(?P<stem>\w+)\s+(?P<label>\w+)"
    r"\s+\[(?P<valence>[\d.]+), (?P<arousal>[\d.]+), (?P<dominance>[\d.]+)\]"
)
_LISTENER = re.compile(r"C-E\d+\s*:\s*(?P<named>[^(]*)")
_SPOKEN = re.compile(r"(?P<stem>Ses\w+_[FM]\d{3})\s*\[[^]]*\]\s*:?\s*(?P<text>.*)")


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that holds `Session1` to `Session5`, or the one above.
    subset : bool
        Accept a part of the corpus: counts are not compared with the published ones, and
        utterances without audio are left out.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`, `label` and `split` are missing. Speakers
        are session and gender, as in 1F. `sentence_id` is the part of the script (script01_2) of
        scripted utterances and missing for improvised ones.

    Raises
    ------
    UserError
        No such folder, no sessions, lines or names outside the scheme, audio without a label, or
        (unless `subset`) labels without audio or other counts than published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    annotated: dict[str, dict[str, Any]] = {}
    audio: dict[str, Path] = {}
    text: dict[str, str] = {}
    for session in _sessions(root):
        annotated.update(_read_labels(session / EVALUATION))
        files = gates.files_below(CORPUS, session / "sentences" / "wav", ".wav", HOLDS)
        gates.check_once(CORPUS, root, files, [file.stem for file in files])
        audio.update((file.stem, file) for file in files)
        if not subset or (session / TRANSCRIPTS).is_dir():
            text.update(_read_text(session / TRANSCRIPTS))
    gates.check_pairs(CORPUS, audio, annotated, EVALUATION, subset=subset)
    rows = gates.parse_all(CORPUS, audio.values(), parse)
    for row, (stem, file) in zip(rows, audio.items(), strict=True):
        row.update(annotated[stem], path=file.relative_to(root).as_posix(), text=text.get(stem))
    if not subset:
        _check_published(rows)
    return gates.listing(CORPUS, rows)


def parse(file: Path) -> dict[str, Any]:
    """Read session, speaker and style from a name such as Ses01F_script01_2_M012.wav.

    The speaker is the session and the letter of the last part, here 1M. Ses01F only says that the
    woman wears the markers: taken for the speaker, it is wrong for 2,750 utterances.

    Raises
    ------
    ValueError
        The name does not follow the scheme.
    """
    match = _NAME.fullmatch(file.stem)
    if not match:
        raise ValueError("not session, dialogue, speaker and turn as in Ses01F_impro01_M012")
    # script01_1b is a second recording within the part script01_1.
    part = match["part"].rstrip("ab")
    return {
        "utterance_id": f"{CORPUS}/{file.stem}",
        "session": match["session"],
        "speaker": match["session"] + match["gender"],
        "gender": GENDERS[match["gender"]],
        "language": "en",
        "style": STYLES[match["style"]],
        "sentence_id": f"script{part}" if match["style"] == "script" else None,
    }


def read_votes(root: str | Path, listing: pd.DataFrame) -> pd.DataFrame:
    """How many listeners named each label.

    The actors' own judgements (C-F, C-M) are left out, as they are of the published label. A
    listener who named several categories counts for each of them.

    Parameters
    ----------
    root : path
        As for `read`.
    listing : DataFrame
        From `read`: the utterances whose votes are wanted.

    Returns
    -------
    DataFrame
        `tables.VOTES`, view 'listeners': ten labels of every utterance, also those that nobody
        named; no levels.

    Raises
    ------
    UserError
        A category that is none of the ten, or utterances that no listener judged.
    """
    named: dict[str, Counter[str]] = {}
    votes: Counter[str] = Counter()
    for session in _sessions(Path(root)):
        for file, number, line in _lines(session / EVALUATION):
            if match := _LINE.match(line):
                votes = named[match["stem"]] = Counter()
            elif match := _LISTENER.match(line):
                given = {part.strip() for part in match["named"].split(";")} - {""}
                if not given <= set(CATEGORIES):
                    expected = f"categories of {', '.join(CATEGORIES)}, each followed by ';'"
                    raise _damaged(file, number, expected, line)
                votes.update({CATEGORIES[category] for category in given})
    stems = [row.removeprefix(f"{CORPUS}/") for row in listing["utterance_id"]]
    unjudged = [stem for stem in stems if not named.get(stem)]
    if unjudged:
        raise UserError(
            f"corpus '{CORPUS}': {EVALUATION} has no listener's line (C-E1: ...) for "
            f"{len(unjudged)} of {len(stems)} utterances: {name_some(unjudged, 20)}. "
            "Unpack it again."
        )
    rows = [
        (f"{CORPUS}/{stem}", "listeners", label, named[stem][label], None)
        for stem in stems
        for label in sorted(set(CATEGORIES.values()))
    ]
    return pd.DataFrame(rows, columns=list(VOTES.columns)).astype({"level": "float64"})


def _check_published(rows: list[dict[str, Any]]) -> None:
    four = [row for row in rows if row["label_raw"] in FOUR]
    merged = [f"{row['session']} {FOUR[row['label_raw']]}" for row in four]
    stems = [row["utterance_id"] for row in rows]
    groups = {
        "class": ([row["label_raw"] for row in rows], COUNTS),
        "session": ([row["session"] for row in rows], PER_SESSION),
        "session and class": (merged, FOUR_PER_SESSION),
        "gender in four classes": ([row["gender"] for row in four], FOUR_PER_GENDER),
        "style in four classes": ([row["style"] for row in four], FOUR_PER_STYLE),
    }
    gates.check_complete(CORPUS, stems, stems, groups)


def _sessions(root: Path) -> list[Path]:
    base = root / RELEASE if (root / RELEASE).is_dir() else root
    sessions = [path for n in PER_SESSION if (path := base / f"Session{n}").is_dir()]
    if not sessions:
        raise UserError(
            f"corpus '{CORPUS}': no Session1 ... Session5 in {base}. "
            f"{gates.point_to(CORPUS, HOLDS)}"
        )
    return sessions


def _lines(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """File, number and text of every line; the folder's own files, not those of its subfolders."""
    if not folder.is_dir():
        raise UserError(f"corpus '{CORPUS}': no folder {folder}. {gates.point_to(CORPUS, HOLDS)}")
    for file in gates.files_with_suffix(CORPUS, folder, ".txt", HOLDS):
        content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
        # Not str.splitlines: it cuts at vertical tabs, form feeds and other controls as well.
        for number, raw in enumerate(content.replace(b"\r\n", b"\n").split(b"\n"), start=1):
            line = _decoded(raw).strip()
            if "\r" in line:
                raise _damaged(file, number, "lines that end in a line feed", line)
            yield file, number, line


def _decoded(raw: bytes) -> str:
    """Text of a line: comments and a few words are in no declared encoding."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        # Five bytes mean nothing in Windows-1252 either.
        return raw.decode("cp1252", errors="replace")


def _read_labels(folder: Path) -> dict[str, dict[str, Any]]:
    """Label and attributes of one session's utterances, by stem."""
    labels: dict[str, dict[str, Any]] = {}
    for file, number, line in _lines(folder):
        if not line.startswith("["):
            continue
        match = _LINE.fullmatch(line)
        if not match or match["label"] not in COUNTS:
            expected = f"[start - end], utterance, one of {', '.join(COUNTS)}, [v, a, d]"
            raise _damaged(file, number, expected, line)
        if match["stem"] in labels:
            raise _damaged(file, number, "an utterance that has no label yet", line)
        values = {name: float(match[name]) for name in ("valence", "arousal", "dominance")}
        labels[match["stem"]] = {"label_raw": match["label"], **values}
    return labels


def _read_text(folder: Path) -> dict[str, str]:
    """Words of one session's utterances, by stem.

    Lines of other shapes are passed over: remarks to the turn before ("M: not fair.") and turns
    that were never segmented (..._MXX0).
    """
    matches = (_SPOKEN.fullmatch(line) for _, _, line in _lines(folder))
    return {match["stem"]: match["text"].strip() for match in matches if match}


def _damaged(file: Path, number: int, expected: str, line: str) -> UserError:
    return UserError(
        f"corpus '{CORPUS}': {file}, line {number}: expected {expected}; found {line[:120]!r}. "
        "Unpack it again."
    )
