"""MSP-Podcast, release 1.11: consensus labels of spontaneous speech.

What      151,654 English utterances, 16 kHz mono, 237 hours, cut from podcasts: a primary emotion
          (eight classes, other, or no agreement) and arousal, valence and dominance from 1 to 7,
          from at least five crowd workers each. Train 84,030, Development 19,815, Test1 30,647,
          Test2 14,815, Test3 2,347.
Who       R. Lotfian and C. Busso: Building Naturalistic Emotionally Balanced Speech Corpus by
          Retrieving Emotional Speech from Existing Podcast Recordings. IEEE Transactions on
          Affective Computing 10(4), 2019. doi:10.1109/TAFFC.2017.2736999. MSP Lab.
Licence   By signed agreement with the MSP Lab, academic or commercial; it may not be passed on.
Where     https://www.lab-msp.com/MSP/MSP-Podcast.html (Labels/, Audios/, Transcripts/ and
          Partitions.txt).
Holes     Test3 has no public labels: it can be predicted, not scored. Some speakers are unknown,
          and such utterances have no speaker here: they are not one person. Some utterances have no
          transcript. Other releases have other counts and other files under the same names: they
          are read as a subset.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates
from serflow.errors import UserError, name_some

CORPUS = "msp_podcast"
HOLDS = "Labels/, Audios/ and Partitions.txt of MSP-Podcast"
RELEASE = "1.11"

# Where releases and copies keep each part, seen from the folder.
CONSENSUS = ("Labels/labels_consensus.csv", "labels_consensus.csv")
PARTITIONS = ("Partitions.txt", "Partition.txt", "Labels/Partitions.txt")
AUDIO = ("Audios", "Audio", ".")
TRANSCRIPTS = ("Transcripts", "Transcript")

CLASSES = {
    "A": "angry",
    "S": "sad",
    "H": "happy",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
    "X": "no_agreement",
}
ATTRIBUTES = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
LOWEST, HIGHEST = 1, 7
GENDERS = {"Female": "female", "Male": "male", "Unknown": None, "": None}
UNKNOWN = ("unknown", "nan", "")  # as a speaker, in any case
SPLITS = {
    "Train": "train",
    "Development": "dev",
    "Test1": "test",
    "Test2": "test",
    "Test3": "test",
}
# Earlier releases and some code say Validation; passed over, it leaves an empty dev part.
PARTITION = f"a partition of {', '.join(SPLITS)}"
COLUMNS = ("FileName", "EmoClass", *ATTRIBUTES.values(), "SpkrID", "Gender", "Split_Set")

COUNTS = {"Train": 84030, "Development": 19815, "Test1": 30647, "Test2": 14815, "Test3": 2347}

_PODCAST = re.compile(r"MSP-PODCAST_(\d+)_\d+\w*")


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that holds the audio, `labels_consensus.csv` and `Partitions.txt`, each in its
        own folder or beside one another.
    subset : bool
        Accept a part of the corpus, or another release than 1.11: counts are not compared with the
        published ones, and utterances without audio are left out.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`, `label` is missing. `partition` is the
        corpus's own, `split` what it stands for, `session` the podcast. Utterances that only
        Partitions.txt names (Test3) have no `label_raw`. `text` is missing without a transcript.

    Raises
    ------
    UserError
        No such folder or table, values outside the vocabularies, tables that contradict each
        other, audio in neither table, or (unless `subset`) utterances without audio or other
        counts than published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    rows = _read_consensus(root)
    partitions = _read_partitions(root, optional=subset)
    apart = [
        f"{stem} ({row['partition']}, {partitions[stem]})"
        for stem, row in rows.items()
        if stem in partitions and partitions[stem] != row["partition"]
    ]
    if apart:
        raise UserError(
            f"corpus '{CORPUS}': labels_consensus.csv and Partitions.txt disagree about the "
            f"partition of {len(apart)} utterances: {name_some(apart, 20)}. Take both from one "
            "release."
        )
    for stem in partitions.keys() - rows.keys():
        rows[stem] = {"partition": partitions[stem]}
    folder = _find(root, AUDIO)
    files = gates.files_with_suffix(CORPUS, folder, ".wav", HOLDS)
    audio = {file.stem: file.relative_to(root).as_posix() for file in files}
    source = "labels_consensus.csv or Partitions.txt"
    gates.check_pairs(CORPUS, audio, rows, source, subset=subset)
    if not subset:
        found = [rows[stem]["partition"] for stem in audio]
        groups = {f"partition (release {RELEASE})": (found, COUNTS)}
        gates.check_complete(CORPUS, audio, audio, groups)
    text = _read_transcripts(root, audio)
    for stem, path in audio.items():
        podcast = _PODCAST.fullmatch(stem)
        rows[stem].update(
            utterance_id=f"{CORPUS}/{stem}",
            path=path,
            language="en",
            session=podcast[1] if podcast else None,
            text=text.get(stem),
            split=SPLITS[rows[stem]["partition"]],
        )
    return gates.listing(CORPUS, [rows[stem] for stem in audio])


def _find(root: Path, places: tuple[str, ...]) -> Path:
    """The first of `places` that exists; the first of all where none does."""
    return next((root / place for place in places if (root / place).exists()), root / places[0])


def _read_consensus(root: Path) -> dict[str, dict[str, Any]]:
    """Label, attributes, speaker, gender and partition of every labelled utterance, by stem."""
    path = _find(root, CONSENSUS)
    try:
        frame = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
        )
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or error
        raise UserError(
            f"corpus '{CORPUS}': {path}: {fault}. {gates.point_to(CORPUS, HOLDS)}"
        ) from None
    missing = [column for column in COLUMNS if column not in frame]
    if missing:
        raise UserError(
            f"corpus '{CORPUS}': {path} lacks the columns {name_some(missing, 20)}; it has "
            f"{name_some(frame.columns, 20)}. Take labels_consensus.csv of release {RELEASE}."
        )
    stems = frame["FileName"].str.removesuffix(".wav")
    scores = {c: pd.to_numeric(frame[theirs], "coerce") for c, theirs in ATTRIBUTES.items()}
    outside = [~values.between(LOWEST, HIGHEST) for values in scores.values()]
    for odd, column, expected in (
        (stems.duplicated(), "FileName", "a FileName that no line before it has"),
        (~frame["EmoClass"].isin(CLASSES), "EmoClass", f"an EmoClass of {', '.join(CLASSES)}"),
        (~frame["Split_Set"].isin(SPLITS), "Split_Set", PARTITION),
        (~frame["Gender"].isin(GENDERS), "Gender", "a Gender of Female, Male, Unknown"),
        *(
            (odd, column, f"an {column} from {LOWEST} to {HIGHEST}")
            for odd, column in zip(outside, ATTRIBUTES.values(), strict=True)
        ),
    ):
        if odd.any():
            line = int(odd.to_numpy().argmax())
            raise _damaged(path, line + 2, expected, frame[column][line])
    parsed = pd.DataFrame(scores).astype(object)
    parsed["label_raw"] = frame["EmoClass"].map(CLASSES)
    speakers = frame["SpkrID"].str.strip()
    parsed["speaker"] = speakers.astype(object).where(~speakers.str.lower().isin(UNKNOWN), None)
    parsed["gender"] = [GENDERS[gender] for gender in frame["Gender"]]
    parsed["partition"] = frame["Split_Set"]
    return dict(zip(stems, parsed.to_dict("records"), strict=True))


def _read_partitions(root: Path, *, optional: bool) -> dict[str, str]:
    """Partition of every utterance, by stem, from lines such as 'Train; MSP-PODCAST_0001_0008.wav'.

    Lines without a semicolon are headings. An utterance may be listed again, in the same partition.
    """
    path = _find(root, PARTITIONS)
    if optional and not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fault = getattr(error, "strerror", None) or error
        raise UserError(
            f"corpus '{CORPUS}': {path}: {fault}. {gates.point_to(CORPUS, HOLDS)}"
        ) from None
    partitions: dict[str, str] = {}
    apart: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        partition, semicolon, name = (part.strip() for part in line.partition(";"))
        if not semicolon:
            continue
        if partition not in SPLITS:
            raise _damaged(path, number, PARTITION, partition)
        first = partitions.setdefault(Path(name).stem, partition)
        if first != partition:
            apart[Path(name).stem] = f"{Path(name).stem} ({first}, {partition} in line {number})"
    if apart:
        raise UserError(
            f"corpus '{CORPUS}': {path} puts {len(apart)} utterances into two partitions: "
            f"{name_some(apart.values(), 20)}. Take the file of release {RELEASE}, or mend the "
            "lines."
        )
    return partitions


def _read_transcripts(root: Path, stems: dict[str, str]) -> dict[str, str]:
    """Words by stem, from one file per utterance; empty where the folder is missing."""
    folder = _find(root, TRANSCRIPTS)
    if not folder.is_dir():
        return {}
    files = [
        file
        for file in gates.files_with_suffix(CORPUS, folder, ".txt", f"{HOLDS}, and Transcripts/")
        if file.stem in stems
    ]
    if not files:
        raise UserError(
            f"corpus '{CORPUS}': no file in {folder} is named as an utterance. Unpack the "
            "transcripts of the same release, or take the folder away to do without."
        )
    return {
        file.stem: text
        for file in files
        if (text := " ".join(file.read_text(encoding="utf-8-sig", errors="replace").split()))
    }


def _damaged(path: Path, line: int, expected: str, found: str) -> UserError:
    return UserError(
        f"corpus '{CORPUS}': {path}, line {line}: expected {expected}; found {found[:120]!r}. "
        f"Take the file of release {RELEASE}, or mend the line."
    )
