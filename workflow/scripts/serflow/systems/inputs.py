"""What the families read, from the files that a rule names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from serflow.audio import AudioStore
from serflow.layer_means import LayerMeans
from serflow.sounds import Sounds
from serflow.tables import EMBEDDINGS, FUNCTIONALS, TRANSCRIPTS, UTTERANCES

TABLES = {"functionals": FUNCTIONALS, "transcripts": TRANSCRIPTS, "embeddings": EMBEDDINGS}
Files = Mapping[str, Sequence[str]]


def read_inputs(files: Files) -> dict[str, Any]:
    """The inputs of a fold, by the names that `fold_run.Fold` gives them.

    Parameters
    ----------
    files : mapping of str to sequence of str
        Of every kind one file a corpus; kinds that a family does not read are missing.
    """
    inputs: dict[str, Any] = {}
    if files.get("samples"):
        inputs["audio"] = AudioStore(zip(files["samples"], files["index"], strict=True))
    if files.get("layer_means"):
        pairs = zip(files["layer_means"], files["layer_ids"], strict=True)
        inputs["layer_means"] = LayerMeans(pairs)
    for name, table in TABLES.items():
        if files.get(name):
            rows = pd.concat([table.read(path) for path in files[name]])
            inputs[name] = rows.set_index("utterance_id")
    if "transcripts" in inputs:
        inputs["texts"] = inputs.pop("transcripts")["text"]
    return inputs


def read_sounds(files: Files) -> dict[str, Sounds]:
    """What augmentation mixes in, by corpus."""
    sounds = {}
    tables = (files.get(f"sound_{part}", []) for part in ("kinds", "samples", "index"))
    for kinds, *store in zip(*tables, strict=True):
        corpus = Path(kinds).parent.name
        sounds[corpus] = Sounds(corpus, AudioStore([store]), UTTERANCES.read(kinds))
    return sounds
