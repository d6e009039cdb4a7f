"""The demo corpus: synthetic emotional speech, made on the spot.

What      714 English utterances, nine in ten of 1 to 3 s, 22.05 kHz mono, of 16 synthetic speakers (eight
          of each gender) in six emotions, shown by prosody and by words, each only part of the time;
          arousal, valence and dominance from 1 to 7. Official split: speakers are disjoint, training
          is skewed, dev and test are uniform.
Who       serflow itself (`serflow.demo`), with eSpeak NG from the wheel espeakng-loader.
Licence   The sentences and the plan are serflow's (Apache-2.0). eSpeak NG is GPL-3.0-or-later; that
          covers the program and its data. serflow ships neither them nor their output.
Where     Made by the rule `synthesise_demo_corpus`.
Holes     No person was recorded. Numbers measured here say that the workflow works, and nothing
          about the recognition of human emotion. The sentences of training return in test.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from serflow.corpora import gates
from serflow.demo.cues import COUNTS
from serflow.errors import UserError, name_some

CORPUS = "demo"
TABLE = "utterances.csv"
HOLDS = f"wav/ and {TABLE}, which the rule synthesise_demo_corpus makes"
COPIED = ("speaker", "gender", "session", "style", "sentence_id", "text", "split")
ATTRIBUTES = ("arousal", "valence", "dominance")


def read(root: str | Path, *, subset: bool = False) -> pd.DataFrame:
    """List the corpus.

    Parameters
    ----------
    root : path
        The folder that `serflow.demo.speech.synthesise` filled.
    subset : bool
        Accept a part of the corpus: counts are not compared with the plan's.

    Returns
    -------
    DataFrame
        `tables.LISTING`; paths are relative to `root`, `label` is missing.

    Raises
    ------
    UserError
        No such folder, no table, sounds without a row or rows without a sound, or (unless `subset`)
        other counts than planned.
    """
    root = gates.corpus_folder(CORPUS, root, HOLDS)
    try:
        table = pd.read_csv(root / TABLE, dtype={"id": str, **dict.fromkeys(COPIED, str)})
    except (OSError, ValueError) as error:
        raise UserError(
            f"corpus '{CORPUS}': cannot read {root / TABLE}: {error}. Delete {root} and run again."
        ) from None
    present = {file.stem for file in gates.files_with_suffix(CORPUS, root / "wav", ".wav", HOLDS)}
    astray = sorted(present ^ set(table["id"]))
    if astray:
        raise UserError(
            f"corpus '{CORPUS}': {len(astray)} utterances are only in wav/ or only in {TABLE}: "
            f"{name_some(astray)}. Delete {root} and run again."
        )
    rows = [
        {
            "utterance_id": f"{CORPUS}/{row['id']}",
            "path": f"wav/{row['id']}.wav",
            "language": "en",
            "label_raw": row["emotion"],
            **{column: row[column] for column in (*COPIED, *ATTRIBUTES)},
        }
        for row in table.to_dict("records")
    ]
    if not subset:
        planned = {f"{s} {e}": n for s, counts in COUNTS.items() for e, n in counts.items()}
        groups = [f"{row['split']} {row['label_raw']}" for row in rows]
        gates.check_complete(CORPUS, table["id"], table["id"], {"part": (groups, planned)})
    return gates.listing(CORPUS, rows)
