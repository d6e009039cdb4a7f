"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset: its audio and its votes.

What      7,442 English utterances, 16 kHz mono: 91 actors (43 women) of 20 to 74 years speak twelve
          sentences in six emotions, one sentence in three intensities. About ten raters each named
          the emotion they perceived from the voice, from the face and from both.
Who       H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova and R. Verma: CREMA-D:
          Crowd-sourced Emotional Multimodal Actors Dataset. IEEE Transactions on Affective Computing
          5(4), 2014. doi:10.1109/TAFFC.2014.2336244.
Licence   Open Database License 1.0; contents under the Database Contents License 1.0.
Where     https://github.com/CheyneyComputerScience/CREMA-D, with git-LFS: without it a .wav there is
          a pointer of three lines, not audio.
Holes     The intended emotion is what the actor was asked for; raters who only heard the voice
          agreed with it in 40.9 %. Voted labels can tie: such a label is `no_agreement`, and a study
          drops it. 1076_MTI_SAD_XX is silent. Copies from before October 2022 name one file
          1040_ITH_SAD_X. 20 clips do not exist: one sentence each of 1008, 1009 and 1019, one
          neutral each of 1002 and 1076. All speakers share all sentences.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some
from serflow.tables import VOTES

CORPUS = "crema_d"
DEMOGRAPHICS = "VideoDemographics.csv"
SUMMARY = "processedResults/summaryTable.csv"
TABULATED = "processedResults/tabulatedVotes.csv"
HOLDS = f"AudioWAV/ and {DEMOGRAPHICS} of CREMA-D's repository"
SOURCE = "https://github.com/CheyneyComputerScience/CREMA-D"

ACTORS = tuple(str(number) for number in range(1001, 1092))
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
GRADED = "IEO"  # the one sentence spoken in three intensities; its neutral is XX too
MISNAMED = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}

LETTERS = {label[0].upper(): label for label in EMOTIONS.values()}
NO_AGREEMENT = "no_agreement"
VIEWS = {"voice": "VoiceVote", "face": "FaceVote", "multimodal": "MultiModalVote"}

COUNTS = {label: 1087 if label == "neutral" else 1271 for label in EMOTIONS.values()}
PER_GENDER = {"female": 3512, "male": 3930}
NEVER_RECORDED = {
    "1002_TIE_NEU_XX",
    "1076_ITS_NEU_XX",
    *(f"1008_WSI_{emotion}_XX" for emotion in EMOTIONS),
    *(f"1009_MTI_{emotion}_XX" for emotion in EMOTIONS),
    *(f"1019_ITH_{emotion}_XX" for emotion in EMOTIONS),
}

_NAME = re.compile(
    r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<intensity>[A-Z]{1,2})"
)


def read(root: str | Path, *, label: str = "intended", subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that holds `AudioWAV` and the tables, or that `AudioWAV` folder itself.
    label : {'intended', 'voice', 'face', 'multimodal'}
        What becomes `label_raw`: the emotion that the actor was asked for, or the one that most
        raters named from the voice, the face or both; where several were named equally often,
        `no_agreement`.
    subset : bool
        Accept a part of the corpus: the names and counts are not compared with the published ones.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`, `label` and `split` are missing; `intensity`
        is the one that the actor was asked for.

    Raises
    ------
    UserError
        No such folder, no files, names outside the scheme, a missing or damaged table, or (unless
        `subset`) other files or counts than published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    wav = root / "AudioWAV" if (root / "AudioWAV").is_dir() else root
    files = gates.files_with_suffix(CORPUS, wav, ".wav", HOLDS)
    rows = gates.parse_all(CORPUS, files, parse)
    stems = [MISNAMED.get(file.stem, file.stem) for file in files]
    gates.check_once(CORPUS, root, files, stems)
    actors = read_actors(_tables(root) / DEMOGRAPHICS)
    for row, file in zip(rows, files, strict=True):
        row["path"] = file.relative_to(root).as_posix()
        row.update(actors[row["speaker"]])
    if not subset:
        expected = published()
        groups = {
            "class": ([row["label_raw"] for row in rows], COUNTS),
            "actor": ([row["speaker"] for row in rows], Counter(stem[:4] for stem in expected)),
            "gender": ([row["gender"] for row in rows], PER_GENDER),
        }
        gates.check_complete(CORPUS, stems, expected, groups)
    if label != "intended":
        winners = read_winners(_tables(root) / SUMMARY, label)
        _check_rated(SUMMARY, stems, winners)
        for row, stem in zip(rows, stems, strict=True):
            row["label_raw"] = winners[stem]
    return gates.listing(CORPUS, rows)


def parse(file: Path) -> dict[str, Any]:
    """Read actor, sentence, emotion and intensity from a name such as 1001_DFA_ANG_XX.wav.

    Raises
    ------
    ValueError
        The name does not follow the scheme.
    """
    stem = MISNAMED.get(file.stem, file.stem)
    match = _NAME.fullmatch(stem)
    if not match:
        raise ValueError("not actor, sentence, emotion, intensity as in 1001_DFA_ANG_XX")
    for part, known in (
        ("actor", ACTORS),
        ("sentence", SENTENCES),
        ("emotion", EMOTIONS),
        ("intensity", INTENSITIES),
    ):
        if match[part] not in known:
            raise ValueError(f"no {part} '{match[part]}'")
    return {
        "utterance_id": f"{CORPUS}/{stem}",
        "speaker": match["actor"],
        "language": "en",
        "sentence_id": match["sentence"],
        "text": SENTENCES[match["sentence"]],
        "label_raw": EMOTIONS[match["emotion"]],
        "intensity": INTENSITIES[match["intensity"]],
    }


def published() -> set[str]:
    """Stems of the 7,442 published utterances, those of SentenceFilenames.csv."""
    stems = {
        f"{actor}_{sentence}_{emotion}_{intensity}"
        for actor, sentence, emotion in product(ACTORS, SENTENCES, EMOTIONS)
        for intensity in (
            ("LO", "MD", "HI") if sentence == GRADED and emotion != "NEU" else ("XX",)
        )
    }
    return stems - NEVER_RECORDED


def read_actors(path: Path) -> dict[str, dict[str, Any]]:
    """Gender, age in years, race and ethnicity of every actor, by number.

    Raises
    ------
    UserError
        The table is missing or damaged, or lacks one of the 91 actors.
    """
    actors = {}
    for line, row in _rows(path, ("ActorID", "Age", "Sex", "Race", "Ethnicity")):
        gender, age = row["Sex"].lower(), row["Age"]
        if gender not in ("female", "male") or not age.isdecimal():
            raise _damaged(path, line, "ActorID, Age, Sex (Female or Male), Race, Ethnicity", row)
        actors[row["ActorID"]] = {
            "gender": gender,
            "age": int(age),
            "race": row["Race"],
            "ethnicity": row["Ethnicity"],
        }
    unknown = [actor for actor in ACTORS if actor not in actors]
    if unknown:
        raise UserError(
            f"corpus '{CORPUS}': {path} lacks {len(unknown)} of {len(ACTORS)} actors: "
            f"{name_some(unknown)}. Get it again from {SOURCE}"
        )
    return actors


def read_winners(path: Path, view: str) -> dict[str, str]:
    """The emotion that most raters named, by stem; `no_agreement` where several tie.

    Parameters
    ----------
    path : path
        summaryTable.csv, where a tie reads A:D.
    view : {'voice', 'face', 'multimodal'}

    Raises
    ------
    UserError
        The table is missing or damaged.
    """
    column = VIEWS[view]
    winners = {}
    for line, row in _rows(path, ("FileName", column)):
        letters = row[column].split(":")
        if not set(letters) <= set(LETTERS):
            raise _damaged(path, line, f"{column} of {', '.join(LETTERS)}, joined by ':'", row)
        winners[row["FileName"]] = LETTERS[letters[0]] if len(letters) == 1 else NO_AGREEMENT
    return winners


def read_votes(root: str | Path, listing: pd.DataFrame) -> pd.DataFrame:
    """How many raters named each emotion, and how intense they found it.

    Parameters
    ----------
    root : path
        As for `read`.
    listing : DataFrame
        From `read`: the utterances whose votes are wanted.

    Returns
    -------
    DataFrame
        `tables.VOTES`: three views of every utterance, six labels each, also those that nobody
        named, which have no level. Empty where the folder has no processedResults.

    Raises
    ------
    UserError
        tabulatedVotes.csv is missing beside other results, is damaged, or lacks an utterance.
    """
    path = _tables(Path(root)) / TABULATED
    if not path.parent.is_dir():
        return pd.DataFrame(columns=list(VOTES.columns))
    wanted = {row.removeprefix(f"{CORPUS}/") for row in listing["utterance_id"]}
    means = {label: f"mean{label.capitalize()}Resp" for label in LETTERS.values()}
    votes, rated = [], set()
    for line, row in _rows(path, ("", "fileName", *LETTERS, *means.values())):
        if row["fileName"] not in wanted:
            continue
        try:
            # 200017 is clip 17 of SentenceFilenames.csv in the second view.
            view = dict(enumerate(VIEWS, start=1))[int(row[""]) // 100_000]
            for letter, label in LETTERS.items():
                level = float(row[means[label]])
                votes.append(
                    (
                        f"{CORPUS}/{row['fileName']}",
                        view,
                        label,
                        int(row[letter]),
                        None if level < 0 else level,
                    )
                )
        except (ValueError, KeyError):
            raise _damaged(
                path, line, "a row number, counts of votes and mean levels", row
            ) from None
        rated.add((row["fileName"], view))
    for view in VIEWS:
        _check_rated(f"{TABULATED} ({view})", sorted(wanted), {s for s, v in rated if v == view})
    return pd.DataFrame(votes, columns=list(VOTES.columns)).astype({"level": "float64"})


def _tables(root: Path) -> Path:
    """The folder of the tables: `root`, or the one above where `root` is AudioWAV itself."""
    return root if (root / "AudioWAV").is_dir() or (root / DEMOGRAPHICS).exists() else root.parent


def _check_rated(table: str, stems: list[str], rated: Any) -> None:
    unrated = [stem for stem in stems if stem not in rated]
    if unrated:
        raise UserError(
            f"corpus '{CORPUS}': {table} has no row for {len(unrated)} of {len(stems)} utterances: "
            f"{name_some(unrated, 20)}. Get it again from {SOURCE}"
        )


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a table that has `columns`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, restval="")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fault = getattr(error, "strerror", None) or error
        raise UserError(
            f"corpus '{CORPUS}': {path}: {fault}. It is part of {SOURCE}. "
            f"{gates.point_to(CORPUS, HOLDS)}"
        ) from None
    missing = [
        column or "(row number)" for column in columns if column not in (reader.fieldnames or ())
    ]
    if missing:
        raise UserError(
            f"corpus '{CORPUS}': {path} lacks the columns {name_some(missing, 20)}. "
            f"Get it again from {SOURCE}"
        )
    return rows


def _damaged(path: Path, line: int, expected: str, row: dict[str, str]) -> UserError:
    found = ",".join(str(value) for value in row.values())
    return UserError(
        f"corpus '{CORPUS}': {path}, line {line}: expected {expected}; found {found[:120]!r}. "
        f"Get it again from {SOURCE}"
    )
