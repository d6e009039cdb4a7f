"""TESS, the Toronto Emotional Speech Set.

What      2,800 English utterances: two actresses, aged 64 (OAF) and 26 (YAF), say "Say the word ..."
          with each of the 200 words of Northwestern University Auditory Test No. 6 in seven emotions.
Who       M. K. Pichora-Fuller and K. Dupuis: Toronto emotional speech set (TESS). University of
          Toronto, 2010. doi:10.5683/SP2/E8H2MF.
Licence   CC BY-NC-ND 4.0.
Where     doi:10.5683/SP2/E8H2MF (Borealis; earlier TSpace 1807/24487).
Holes     Two speakers of one gender: the emotions are easy to tell within a speaker, and folds that
          are disjoint in speakers test on one voice. Every word is there in every emotion and of
          both speakers, so such folds share all of them. OAF_bite_neutral is published as
          OA_bite_neutral. Folders are named differently from copy to copy, and the one at Kaggle
          holds the set twice, once in a nested folder.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.corpora import gates

CORPUS = "tess"
HOLDS = "TESS once: OAF_back_angry.wav and so on, in any folders"

SPEAKERS = {"OAF": 64, "YAF": 26}  # older and younger adult female; age
EMOTIONS = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "pleasant_surprise",
    "sad": "sad",
}
NU_6 = """
    back bar base bath bean beg bite boat bone book bought burn cab calm came cause chain chair
    chalk chat check cheek chief choice cool dab date dead death deep dime dip ditch dodge dog doll
    door fail fall far fat fit five food gap gas gaze germ get gin goal good goose gun half hall
    hash hate have haze hire hit hole home hurl hush jail jar join judge jug juice keen keep keg
    kick kill king kite knock late laud lean learn lease lid life limb live loaf long lore lose lot
    love luck make match merge mess met mill mob mode mood moon mop mouse nag name near neat nice
    note numb pad page pain pass pearl peg perch phone pick pike pole pool puff rag raid rain raise
    rat reach read red ring ripe road room rose rot rough rush said sail search seize sell shack
    shall shawl sheep shirt should shout size soap soup sour south sub such sure take talk tape team
    tell thin third thought thumb time tip tire ton tool tough turn vine voice void vote wag walk
    wash week wheat when which whip white wife wire witch yearn yes young youth
"""
WORDS = tuple(NU_6.split())
MISNAMED = {"oa_bite_neutral": "oaf_bite_neutral"}

PER_CELL = len(WORDS)
COUNTS = dict.fromkeys(EMOTIONS.values(), len(SPEAKERS) * PER_CELL)

_NAME = re.compile(r"(?P<speaker>[a-z]+)_(?P<word>[a-z]+)_(?P<emotion>[a-z]+)")


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        A folder with the files anywhere below; folder names do not matter.
    subset : bool
        Accept a part of the corpus: the names and counts are not compared with the published ones.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`, `label` and `split` are missing,
        `sentence_id` is the word.

    Raises
    ------
    UserError
        No such folder, no files, names outside the scheme, a file that is there twice, or (unless
        `subset`) other files or counts than published.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    files = gates.files_below(CORPUS, root, ".wav", HOLDS)
    rows = gates.parse_all(CORPUS, files, parse)
    for row, file in zip(rows, files, strict=True):
        row["path"] = file.relative_to(root).as_posix()
    names = [row["utterance_id"].removeprefix(f"{CORPUS}/") for row in rows]
    gates.check_once(CORPUS, root, files, names)
    if not subset:
        cells = {f"{s} {label}": PER_CELL for s, label in product(SPEAKERS, EMOTIONS.values())}
        groups = {
            "class": ([row["label_raw"] for row in rows], COUNTS),
            "speaker and class": ([f"{row['speaker']} {row['label_raw']}" for row in rows], cells),
        }
        gates.check_complete(CORPUS, names, published(), groups)
    return gates.listing(CORPUS, rows)


def parse(file: Path) -> dict[str, Any]:
    """Read speaker, word and emotion from a name such as OAF_back_angry.wav, in any case.

    Raises
    ------
    ValueError
        The name does not follow the scheme.
    """
    stem = file.stem.lower()
    match = _NAME.fullmatch(MISNAMED.get(stem, stem))
    if not match:
        raise ValueError("not speaker, word, emotion as in OAF_back_angry")
    speaker, word, emotion = match["speaker"].upper(), match["word"], match["emotion"]
    for part, value, known in (
        ("speaker", speaker, SPEAKERS),
        ("word", word, WORDS),
        ("emotion", emotion, EMOTIONS),
    ):
        if value not in known:
            raise ValueError(f"no {part} '{value}'")
    return {
        "utterance_id": f"{CORPUS}/{speaker}_{word}_{emotion}",
        "speaker": speaker,
        "gender": "female",
        "age": SPEAKERS[speaker],
        "language": "en",
        "sentence_id": word,
        "text": f"Say the word {word}.",
        "label_raw": EMOTIONS[emotion],
    }


def published() -> set[str]:
    """Names of the 2,800 published utterances: every word in every emotion, of both speakers."""
    return {"_".join(parts) for parts in product(SPEAKERS, WORDS, EMOTIONS)}
