"""Folders in the layouts of IEMOCAP and MSP-Podcast: the licensed corpora's files, made up."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
import soundfile

# Pitch in Hz and level of tones that tell four emotions.
TONES = {"neutral": (160, 0.2), "happy": (220, 0.4), "angry": (280, 0.6), "sad": (110, 0.1)}

# Utterances of each label in sessions 1 to 5, which add up to every count that is published. The
# published ones are of classes, of sessions, and of hap with exc in sessions; the rest is one way
# to fill them.
IEMOCAP_LABELS = {
    "neu": (384, 362, 320, 258, 384),
    "hap": (135, 117, 135, 65, 143),
    "exc": (143, 210, 151, 238, 299),
    "ang": (229, 137, 240, 327, 170),
    "sad": (194, 197, 305, 143, 245),
    "fru": (280, 325, 382, 481, 381),
    "fea": (8, 8, 8, 8, 8),
    "sur": (22, 22, 21, 21, 21),
    "dis": (1, 1, 0, 0, 0),
    "oth": (1, 1, 1, 0, 0),
    "xxx": (422, 431, 573, 562, 519),
}
NAMED = {
    "neu": "Neutral",
    "hap": "Happiness",
    "exc": "Excited",
    "ang": "Anger",
    "sad": "Sadness",
    "fru": "Frustration",
    "fea": "Fear",
    "sur": "Surprise",
    "dis": "Disgust",
    "oth": "Other",
}
FOUR = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}
PARTS = {
    "impro": ("impro01", "impro02", "impro05a", "impro05b"),
    "script": ("script01_1", "script01_2", "script01_1b", "script03_2"),
}


def write_iemocap(folder: Path, *, complete: bool = False, sound: bool = True) -> Path:
    """Write a release tree.

    Parameters
    ----------
    folder : path
    complete : bool
        All 10,039 utterances with the published counts, without sound; otherwise 16 of each
        session: both speakers say four emotions, improvised and from the script.
    sound : bool
        Tones of half a second, or empty files.
    """
    if complete:
        plan, sound = list(_published_iemocap()), False
    else:
        plan = [
            (session, label, gender, style)
            for session in range(1, 6)
            for gender in "FM"
            for style in PARTS
            for label in ("neu", "exc" if style == "impro" else "hap", "ang", "sad")
        ]
    dialogues: dict[tuple[int, str], list[tuple[str, str]]] = {}
    for number, (session, label, gender, style) in enumerate(plan):
        # Both actors speak in every dialogue, whichever of them its name says wears the markers.
        choice = number // 4 if complete else 0
        wearer, part = "FM"[choice % 2], PARTS[style][choice // 2 % len(PARTS[style])]
        turns = dialogues.setdefault((session, f"Ses0{session}{wearer}_{part}"), [])
        turns.append((f"Ses0{session}{wearer}_{part}_{gender}{len(turns):03d}", label))
    rng = np.random.default_rng(0)
    empty = None if sound else _empty(folder)
    for (session, dialogue), turns in dialogues.items():
        base = folder / f"Session{session}"
        wavs = base / "sentences" / "wav" / dialogue
        wavs.mkdir(parents=True)
        for stem, label in turns:
            _write_wav(wavs / f"{stem}.wav", FOUR.get(label), rng, empty)
        evaluation = "\n".join(_evaluation(n, *turn) for n, turn in enumerate(turns))
        spoken = "\n".join(_spoken(n, stem) for n, (stem, _) in enumerate(turns))
        for kind, text in (
            (
                "EmoEvaluation",
                f"% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n{evaluation}",
            ),
            ("transcriptions", f"{spoken}\nM: not fair.\n{dialogue}_MXX0 [001.0-002.0]: Hm.\n"),
        ):
            file = base / "dialog" / kind / f"{dialogue}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    for session in range(1, 6):
        base = folder / f"Session{session}" / "dialog" / "EmoEvaluation"
        (base / "Self-evaluation").mkdir()
        (base / "Self-evaluation" / "Ses_f.txt").write_text("Ses_F000 :Anger; ()\n")
        (base / "._Ses01F_impro01.txt").write_bytes(b"\0\5\x16\7")
    return folder


def _published_iemocap():
    """Session, label, gender letter and style of 10,039 utterances, by the published counts."""
    women = _spread(2649, 5531)
    improvised = _spread(2943, 5531)
    for session in range(1, 6):
        for label, counts in IEMOCAP_LABELS.items():
            for number in range(counts[session - 1]):
                if label in FOUR:
                    gender, style = "MF"[next(women)], ("script", "impro")[next(improvised)]
                else:
                    gender, style = "FM"[number % 2], ("impro", "script")[number // 2 % 2]
                yield session, label, gender, style


def _spread(part: int, whole: int):
    """`part` ones and else zeros, `whole` in all, evenly."""
    steps = list(accumulate([part] * whole))
    return (int(after // whole > (after - part) // whole) for after in steps)


def _evaluation(number: int, stem: str, label: str) -> str:
    named = NAMED.get(label, "Neutral")
    third = "Frustration" if label == "xxx" else named
    return (
        f"[{number + 0.29:.4f} - {number + 0.79:.4f}]\t{stem}\t{label}\t[2.5000, 3.5000, 4.0000]\n"
        f"C-E2:\t{named};\t()\n"
        f"C-E3:\t{'Surprise; Other;' if label == 'xxx' else f'{named};'}\t(mildly, so to say)\n"
        f"C-E4:\t{third};\t()\n"
        f"C-{stem[-4]}1:\tAnger;\t()\n"
        "A-E3:\tval 2; act 3; dom  4;\t()\n"
    )


def _spoken(number: int, stem: str) -> str:
    return f"{stem} [{number:03d}.2901-{number:03d}.7901]: Excuse me. [LAUGHTER] {number}"


MSP_CLASSES = {"N": "neutral", "H": "happy", "A": "angry", "S": "sad", "X": None, "O": None}
MSP_ITEMS = {"Train": 4, "Development": 2, "Test1": 2, "Test2": 1, "Test3": 4}


def write_msp_podcast(
    folder: Path, *, items: dict[str, int] = MSP_ITEMS, sound: bool = True
) -> Path:
    """Write a release tree.

    Parameters
    ----------
    folder : path
    items : dict of str to int
        Utterances of each of four emotions in a partition; Test3: unlabelled utterances in all.
        No agreement and other have one utterance in each labelled partition. Each partition has
        two speakers of its own and one unknown.
    sound : bool
        Tones of half a second, or empty files.
    """
    for part in ("Labels", "Audios", "Transcripts"):
        (folder / part).mkdir(parents=True)
    labels = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    partitions = ["MSP-PODCAST partitions", ""]
    rng = np.random.default_rng(0)
    empty = None if sound else _empty(folder)
    for podcast, (partition, count) in enumerate(items.items(), start=1):
        letters = [
            letter for letter, name in MSP_CLASSES.items() for _ in range(count if name else 1)
        ]
        if partition == "Test3":
            letters = list("NHAS" * count)[:count]
        for number, letter in enumerate(letters):
            stem = f"MSP-PODCAST_{podcast:04d}_{number:04d}"
            _write_wav(folder / "Audios" / f"{stem}.wav", MSP_CLASSES[letter], rng, empty)
            (folder / "Transcripts" / f"{stem}.txt").write_text(f"Well, that is item {number}.\n")
            partitions.append(f"{partition}; {stem}.wav")
            if partition != "Test3":
                speaker = ("Unknown", 2 * podcast, 2 * podcast + 1)[number % 3]
                gender = ("Unknown", "Female", "Male")[number % 3]
                pitch, level = TONES.get(MSP_CLASSES[letter], TONES["neutral"])
                scores = f"{1 + 8 * level:.6f},{pitch / 40:.6f},{2 + 5 * level:.6f}"
                labels.append(f"{stem}.wav,{letter},{scores},{speaker},{gender},{partition}")
    (folder / "Labels" / "labels_consensus.csv").write_text("\n".join(labels) + "\n")
    (folder / "Partitions.txt").write_text("\n".join(partitions) + "\n")
    return folder


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".empty").touch()
    return folder / ".empty"


def _write_wav(
    path: Path, emotion: str | None, rng: np.random.Generator, empty: Path | None
) -> None:
    if empty:
        # A link to one empty file is made ten times faster than another empty file.
        path.hardlink_to(empty)
        return
    pitch, level = TONES[emotion or "neutral"]
    time_s = np.arange(8_000) / 16_000
    pitch_hz = pitch * (1 + 0.05 * rng.standard_normal())
    wave = level * np.sin(2 * np.pi * pitch_hz * time_s) + 0.005 * rng.standard_normal(8_000)
    soundfile.write(path, wave, 16_000, subtype="PCM_16")
