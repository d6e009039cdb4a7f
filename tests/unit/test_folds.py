"""Folds: no group on both sides, no class unlearnt, the same answer every time."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from serflow.config.study import FoldsConfig
from serflow.corpora import emodb
from serflow.errors import UserError
from serflow.folds import assign, check_disjoint, describe
from serflow.labels import apply_labels
from serflow.tables import FOLDS

CLASSES = ["anger", "joy", "neutral"]


def utterances(speakers=6, each=4, corpus="x"):
    rows = [
        {
            "utterance_id": f"{corpus}/{speaker:02d}_{label}_{take}",
            "corpus": corpus,
            "speaker": f"{speaker:02d}",
            "session": f"s{speaker // 2}",
            "sentence_id": f"t{take}",
            "label": label,
            "split": ("train", "train", "dev", "test")[take % 4],
        }
        for speaker, label, take in itertools.product(range(speakers), CLASSES, range(each))
    ]
    return pd.DataFrame(rows)


PROTOCOLS = {
    "official": {},
    "stratified_k_fold": {"k": 4, "seed": 3, "dev": "next_fold"},
    "grouped_k_fold": {"group": "speaker", "k": 3, "seed": 3, "dev": "next_fold"},
    "leave_one_group_out": {"group": "session", "groups": 3, "dev": "next_fold"},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_utterance_has_one_role_in_every_fold_and_is_tested_once(protocol):
    rows = utterances()
    folds, notes = assign(rows, protocol, **PROTOCOLS[protocol])
    FOLDS.check(folds, "here")
    config = TypeAdapter(FoldsConfig).validate_python({"protocol": protocol, **PROTOCOLS[protocol]})
    # The plan names the folds from the settings alone, before any data is read.
    assert list(dict.fromkeys(folds["fold"])) == config.names()
    assert len(folds) == len(rows) * len(config.names())
    assert set(folds["role"]) == {"train", "dev", "test"}
    tested = folds.loc[folds["role"] == "test", "utterance_id"]
    assert tested.is_unique
    if protocol != "official":
        assert len(tested) == len(rows)
    assert notes == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_folds_do_not_depend_on_the_order_of_the_table(protocol):
    rows = utterances()
    first, _ = assign(rows, protocol, **PROTOCOLS[protocol])
    shuffled, _ = assign(rows.sample(frac=1, random_state=5), protocol, **PROTOCOLS[protocol])
    pd.testing.assert_frame_equal(first, shuffled)


def test_another_seed_is_another_partition():
    rows = utterances()
    one, _ = assign(rows, "stratified_k_fold", k=4, seed=1)
    two, _ = assign(rows, "stratified_k_fold", k=4, seed=2)
    assert not one.equals(two)


def test_the_official_split_is_taken_as_it_is():
    rows = utterances()
    folds, _ = assign(rows, "official")
    merged = folds.merge(rows, on="utterance_id")
    assert (merged["role"] == merged["split"]).all()


@pytest.mark.parametrize("group", ["speaker", "session", "sentence_id"])
def test_no_group_is_on_both_sides(group):
    rows = utterances()
    folds, _ = assign(rows, "grouped_k_fold", group=group, k=3, dev="next_fold")
    merged = folds.merge(rows, on="utterance_id")
    assert (merged.groupby(["fold", group])["role"].nunique() == 1).all()


def test_the_speaker_leak_of_published_fold_files_is_found_by_name():
    # EmoBox's fold files share speakers between train and test in CREMA-D, EmoDB and TESS.
    rows = utterances()
    leaky, _ = assign(rows, "stratified_k_fold", k=4)
    with pytest.raises(
        UserError, match=r"\d+ times a speaker is on both sides: x/00 \(test and tr"
    ):
        check_disjoint(rows, leaky, "speaker")


def test_one_speaker_number_in_two_corpora_is_two_speakers():
    both = pd.concat([utterances(corpus="savee"), utterances(corpus="tess")])
    folds, _ = assign(both, "leave_one_group_out", group="speaker", groups=12)
    assert (folds.groupby("fold")["role"].value_counts()[:, "test"] == len(CLASSES) * 4).all()


def test_leave_one_speaker_out_on_real_emodb(emodb_folder):
    rows, _ = apply_labels(emodb.read(emodb_folder), list(emodb.COUNTS), {}, [])
    folds, notes = assign(rows, "leave_one_group_out", group="speaker", groups=10)
    test = folds[folds["role"] == "test"].merge(rows, on="utterance_id")
    speakers = test.groupby("fold")["speaker"].agg(set)
    assert list(speakers) == [{speaker} for speaker in sorted(emodb.SPEAKERS)]
    # Speaker 08 acted no disgust that the listeners recognised.
    assert notes == ["the test rows of fold '1' have no disgust"]
    with pytest.raises(UserError, match="dev rows of fold '0' have no utterance of class disgust"):
        assign(rows, "leave_one_group_out", group="speaker", groups=10, dev="next_fold")


def test_another_number_of_speakers_than_declared_is_an_error_that_names_them():
    with pytest.raises(
        UserError, match=r"folds\.groups is 10, but .* 6 values of speaker: x/00, x/01"
    ):
        assign(utterances(), "leave_one_group_out", group="speaker", groups=10)


def test_more_folds_than_groups_is_an_error():
    with pytest.raises(UserError, match="k can be 3 at most"):
        assign(utterances(), "grouped_k_fold", group="session", k=5)


@pytest.mark.parametrize("gap", [None, np.nan])
def test_utterances_without_speaker_are_named(gap):
    rows = utterances()
    rows["speaker"] = rows["speaker"].astype(object)
    rows.loc[[3, 7], "speaker"] = gap
    named = f"2 of 72 utterances have no speaker: {rows.at[3, 'utterance_id']}"
    with pytest.raises(UserError, match=named):
        assign(rows, "leave_one_group_out", group="speaker", groups=6)


@pytest.mark.parametrize("column", ["label", "split"])
def test_utterances_without_label_or_split_are_named(column):
    rows = utterances()
    rows.loc[0, column] = None
    with pytest.raises(UserError, match=f"1 of 72 utterances have no {column}"):
        assign(rows, "official")


def test_a_class_that_only_the_test_speaker_shows_is_named_with_its_fold():
    rows = utterances()
    rows.loc[(rows["speaker"] != "02") & (rows["label"] == "joy"), "label"] = "anger"
    with pytest.raises(UserError, match="train rows of fold '2' have no utterance of class joy"):
        assign(rows, "leave_one_group_out", group="speaker", groups=6)


def test_a_class_with_one_utterance_cannot_be_folded():
    rows = utterances()
    rows.loc[0, "label"] = "surprise"
    with pytest.raises(
        UserError, match=r"train rows of fold .* have no utterance of class surprise"
    ):
        assign(rows, "stratified_k_fold", k=4)


@pytest.mark.parametrize("role", ["train", "dev", "test"])
def test_an_official_split_that_lacks_a_class_or_a_part_is_an_error(role):
    rows = utterances()
    lacking = rows[(rows["split"] != role) | (rows["label"] != "joy")]
    with pytest.raises(UserError, match=f"the {role} rows of fold '0' have no .* class joy"):
        assign(lacking, "official")
    with pytest.raises(UserError, match=f"fold '0' has no {role} rows"):
        assign(rows[rows["split"] != role], "official")


def test_a_test_set_that_lacks_a_class_is_noted_because_metrics_pool_the_folds():
    rows = utterances()
    rows = rows[(rows["speaker"] != "04") | (rows["label"] != "neutral")]
    _, notes = assign(rows, "leave_one_group_out", group="speaker", groups=6)
    assert notes == ["the test rows of fold '4' have no neutral"]


def test_two_folds_leave_none_to_train_on_once_one_is_dev():
    with pytest.raises(UserError, match="use 3"):
        assign(utterances(), "stratified_k_fold", k=2, dev="next_fold")


def test_the_dev_rows_of_a_fold_are_the_test_rows_of_the_next():
    folds, _ = assign(utterances(), "grouped_k_fold", group="speaker", k=3, dev="next_fold")
    rows = {
        (fold, role): set(part["utterance_id"])
        for (fold, role), part in folds.groupby(["fold", "role"])
    }
    for fold, following in (("0", "1"), ("1", "2"), ("2", "0")):
        assert rows[fold, "dev"] == rows[following, "test"]


def test_the_description_counts_every_class_of_every_role_zeros_included():
    rows = utterances(speakers=12)
    rows = rows[(rows["speaker"] != "04") | (rows["label"] != "neutral")]
    folds, _ = assign(rows, "leave_one_group_out", group="speaker", groups=12)
    table = describe(rows, folds)
    assert table["utterances"].sum() == len(folds)
    assert list(dict.fromkeys(table["fold"])) == [str(i) for i in range(12)], "10 follows 9"
    lacking = table[table["utterances"] == 0]
    assert lacking.to_dict("records") == [
        {"fold": "4", "role": "test", "label": "neutral", "utterances": 0}
    ]
