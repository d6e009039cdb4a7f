"""The HuBERT study's data: on the four corpora as published, it has the paper's counts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from serflow.config.load import load_study
from serflow.corpora import crema_d, ravdess, savee, tess
from serflow.folds import assign, check_disjoint
from serflow.labels import apply_labels

STUDY = load_study(Path(__file__).parents[2] / "studies/hubert_multilabel.yaml")
# Table 2, in the order of RAVDESS, CREMA-D, TESS, SAVEE.
TABLE_2 = {
    "angry": [192, 1271, 400, 60],
    "calm": [192, 0, 0, 0],
    "disgust": [192, 1271, 400, 60],
    "fear": [192, 1271, 400, 60],
    "happy": [192, 1271, 400, 60],
    "neutral": [96, 1087, 400, 120],
    "sad": [192, 1271, 400, 60],
    "surprise": [192, 0, 400, 60],
}


@cache
def utterances() -> pd.DataFrame:
    """Every published name, read as the corpora's modules read it."""
    rows = []
    for module in (ravdess, crema_d, tess, savee):
        for name in sorted(module.published()):
            rows.append(module.parse(Path(f"{name}.wav")) | {"corpus": module.CORPUS})
    listing = pd.DataFrame(rows)
    labels = STUDY.labels
    mapped, dropped = apply_labels(
        listing, STUDY.classes, labels.map, labels.drop, labels.unlabelled
    )
    assert not dropped
    return mapped


def folds_of(protocol) -> pd.DataFrame:
    settings = protocol.model_dump()
    return assign(utterances(), settings.pop("protocol"), **settings)[0]


def test_classes_and_corpora_are_those_of_table_2():
    counts = utterances().groupby(["label", "corpus"]).size().unstack(fill_value=0)
    counts = counts[list(STUDY.corpora)]
    assert counts.loc[STUDY.classes].to_numpy().tolist() == [TABLE_2[c] for c in STUDY.classes]
    assert len(utterances()) == 12_162


def test_the_papers_split_tests_on_2432_utterances_of_speakers_that_are_known():
    folds = folds_of(STUDY.folds)
    assert (folds["role"] == "test").sum() == 2432
    assert (folds["role"] == "train").sum() == 12_162 - 2432
    speakers = folds.merge(utterances(), on="utterance_id").groupby("role")["speaker"].agg(set)
    assert speakers["test"] <= speakers["train"]


def test_the_contrast_tests_every_speaker_once_and_trains_on_every_class():
    folds = folds_of(STUDY.contrast("speaker_disjoint").folds)
    check_disjoint(utterances(), folds, "speaker")
    tested = folds[folds["role"] == "test"]
    assert sorted(tested["utterance_id"]) == sorted(utterances()["utterance_id"])
    # No fold hears both speakers of TESS, a quarter of the data, in test.
    assert tested.groupby("fold").size().max() < 0.3 * len(utterances())


@pytest.mark.parametrize("system", STUDY.systems)
def test_systems_differ_in_what_is_adapted_alone(system):
    settings, first = STUDY.systems[system], STUDY.systems["hubert_full"]
    assert settings.head == first.head and settings.training == first.training
    assert settings.training.epochs == 50 and settings.training.learning_rate == 1e-5
