"""A study of one text system that two GPUs train, on words that tell the emotion: seconds on CPU."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import tiny_models
from runs import copy_workflow
from small_emodb import write_small_emodb

STUDY = """
title: "Words, on two GPUs"
classes: [anger, neutral, sadness]
corpora:
  tones: {{source: table, columns: {{label: emotion}}}}
folds: {{protocol: official}}
asr:
  gold: {{engine: reference}}
systems:
  text:
    family: text_classifier
    model: {model!r}
    adaptation: full
    resources: multi-gpu
    gpus: 2
    training: {{epochs: {epochs}, batch_size: 4}}
intervals: {{resamples: 100}}
"""
SPLIT = {"03": "train", "08": "train", "09": "dev", "10": "test"}
EMOTIONS = {"W": "anger", "N": "neutral", "T": "sadness"}
WORDS = {"anger": "we hate it", "neutral": "a day", "sadness": "we are awful"}
FOLD = "results/words/seed-1/systems/text/fold-0"


def make(base: Path, epochs: int = 60, machine: str = "") -> Path:
    """A copy of the workflow with the study, its corpus and its model; `machine` ends config.yaml."""
    corpus = write_small_emodb(base / "tones", tuple(SPLIT))
    files = sorted(corpus.glob("wav/*.wav"))
    table = pd.DataFrame(
        {
            "path": [file.relative_to(corpus).as_posix() for file in files],
            "emotion": [EMOTIONS[file.stem[5]] for file in files],
            "speaker": [file.stem[:2] for file in files],
            "split": [SPLIT[file.stem[:2]] for file in files],
        }
    )
    table.assign(text=table["emotion"].map(WORDS)).to_csv(corpus / "utterances.csv", index=False)
    folder = copy_workflow(base / "clone")
    model = str(tiny_models.llama(base / "llama"))
    study = STUDY.format(model=model, epochs=epochs)
    (folder / "studies/words.yaml").write_text(study, encoding="utf-8")
    (folder / "config.yaml").write_text(
        f"studies: [words]\npaths: {{tones: {str(corpus)!r}}}\n{machine}", encoding="utf-8"
    )
    return folder
