"""Folds: no group on both sides, no class unlearnt, the same answer every time."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter
from sklearn.model_selection import StratifiedKFold

from serflow.config.study import FoldsConfig
from serflow.corpora import emodb
from serflow.errors import UserError
from serflow.folds import assign, check_disjoint, describe, folds_digest
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
            "test_fold": str(9 + speaker // 2),
        }
        for speaker, label, take in itertools.product(range(speakers), CLASSES, range(each))
    ]
    return pd.DataFrame(rows)


NESTED = {"fraction": 0.25, "group": None, "stratify": True}
BY_SPEAKER = {"fraction": 0.25, "group": "speaker", "stratify": False}
PROTOCOLS = {
    "official": {},
    "own_folds": {"k": 3, "dev": "next_fold"},
    "random_split": {"test": 0.25, "seed": 3, "dev": NESTED},
    "k_fold": {"k": 4, "seed": 3, "dev": NESTED},
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
    if protocol not in ("official", "random_split"):
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


def test_twenty_per_cent_of_the_papers_corpora_are_the_papers_2432_utterances():
    # scikit-learn rounds 2,432.4 up; the published confusion matrices hold 2,432 (HuBERT paper).
    ids = [f"x/{i:05d}" for i in range(12_162)]
    rows = pd.DataFrame({"utterance_id": ids, "corpus": "x", "label": ["a", "b", "c"] * 4054})
    folds, _ = assign(rows, "random_split", test=0.2)
    assert folds["role"].value_counts().to_dict() == {"train": 9730, "test": 2432}


def test_a_random_split_can_keep_the_classes_or_hold_out_whole_speakers():
    rows = utterances(speakers=8, each=5)
    stratified, _ = assign(rows, "random_split", test=0.2, stratify=True)
    test = stratified[stratified["role"] == "test"].merge(rows, on="utterance_id")
    assert test["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 8)
    disjoint, _ = assign(rows, "random_split", test=0.25, group="speaker")
    check_disjoint(rows, disjoint, "speaker")
    assert (disjoint["role"] == "test").mean() == 0.25


@pytest.mark.parametrize("fraction", [1e-4, 0.9999])
def test_a_fraction_that_leaves_one_side_empty_is_an_error(fraction):
    with pytest.raises(UserError, match="leaves some of them on both sides"):
        assign(utterances(), "random_split", test=fraction)


def test_published_folds_over_the_corpus_own_order_are_reproduced():
    # THAU-UPM's folds: stratified, seed 42, over the CSV's rows as they come.
    rows = utterances()
    rows["position"] = np.random.default_rng(0).permutation(len(rows)).astype(float)
    folds, _ = assign(rows, "stratified_k_fold", k=4, seed=42, order="position")
    table = rows.sort_values("position", ignore_index=True)
    splits = StratifiedKFold(4, shuffle=True, random_state=42).split(table, table["label"])
    for fold, (_, test) in enumerate(splits):
        mine = folds[(folds["fold"] == str(fold)) & (folds["role"] == "test")]
        assert set(mine["utterance_id"]) == set(table.loc[test, "utterance_id"])
    rows.loc[3, "position"] = np.nan
    with pytest.raises(UserError, match="1 of 72 utterances have no position"):
        assign(rows, "stratified_k_fold", k=4, order="position")


def test_tied_positions_are_folded_alike_in_whatever_order_the_rows_come():
    rows = utterances()
    rows["position"] = np.arange(len(rows)) // 2.0
    settings = {"k": 4, "seed": 42, "order": "position"}
    digests = {
        folds_digest(assign(rows.sample(frac=1, random_state=s), "k_fold", **settings)[0])
        for s in range(5)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("protocol", ["grouped_k_fold", "leave_one_group_out"])
def test_nested_dev_rows_come_from_the_training_rows_and_may_keep_speakers_apart(protocol):
    rows = utterances()
    settings = {"group": "speaker"} | ({"k": 3} if protocol == "grouped_k_fold" else {"groups": 6})
    bare, _ = assign(rows, protocol, **settings)
    plain, _ = assign(rows, protocol, **settings, dev=NESTED)
    apart, _ = assign(rows, protocol, **settings, dev=BY_SPEAKER)
    for folds in (plain, apart):
        same = folds["role"].eq("test") == bare["role"].eq("test")
        assert same.all(), "who is tested does not depend on how dev rows are drawn"
        assert (folds.groupby("fold")["role"].agg(set) == {"train", "dev", "test"}).all()
    check_disjoint(rows, apart, "speaker")
    with pytest.raises(UserError, match="speaker is on both sides"):
        check_disjoint(rows, plain, "speaker")


def test_dev_rows_can_be_balanced_as_in_taltechs_dev_bal():
    rows = utterances(speakers=12)
    joy = rows["label"].eq("joy") & rows["split"].eq("dev")
    rows = rows.drop(rows.index[joy][2:])
    folds, notes = assign(rows, "official", dev_per_class=5, seed=1)
    dev = folds[folds["role"] == "dev"].merge(rows, on="utterance_id")
    assert dev["label"].value_counts().to_dict() == {"anger": 5, "neutral": 5, "joy": 2}
    assert notes == ["fold '0': 12 of 26 dev rows kept, 5 a class; fewer in joy 2"]
    whole, _ = assign(rows, "official")
    kept = folds.merge(whole, on=["utterance_id", "fold", "role"])
    assert len(kept) == len(folds), "nobody changes sides"
    other, _ = assign(rows, "official", dev_per_class=5, seed=2)
    assert folds_digest(other) != folds_digest(folds)


def test_the_digest_of_the_folds_is_that_of_the_roles_alone():
    rows = utterances()
    folds, _ = assign(rows, "stratified_k_fold", k=4)
    assert folds_digest(folds) == folds_digest(folds.sample(frac=1, random_state=0))
    swapped = folds.assign(role=folds["role"].where(folds.index != 5, "dev"))
    assert folds_digest(swapped) != folds_digest(folds)


def test_classes_that_are_learnt_alone_are_in_no_dev_or_test_set():
    """MSP-Podcast's X and O: scored, they would be errors of every system on every such row."""
    rows = utterances()
    folds, notes = assign(rows, "official", dev_per_class=2, train_only=["joy"])
    found = folds.merge(rows[["utterance_id", "label"]], on="utterance_id")
    counts = found.groupby(["role", "label"]).size().to_dict()
    assert counts == {
        ("train", "anger"): 12, ("train", "joy"): 12, ("train", "neutral"): 12,
        ("dev", "anger"): 2, ("dev", "neutral"): 2,
        ("test", "anger"): 6, ("test", "neutral"): 6,
    }  # fmt: skip
    assert notes[0] == "fold '0': 12 dev and test rows of joy have no role"


def test_ones_own_folds_are_taken_as_they_are_and_counted_by_size():
    """Fold 10 before fold 9, as text is sorted, would give every fold another one's posteriors."""
    rows = utterances()
    folds, _ = assign(rows, "own_folds", k=3)
    tested = folds[folds["role"] == "test"].merge(rows, on="utterance_id")
    pairs = set(zip(tested["fold"], tested["test_fold"], strict=True))
    assert pairs == {("0", "9"), ("1", "10"), ("2", "11")}
    with pytest.raises(UserError, match=r"folds.k is 5, but .* 3 values of test_fold: 9, 10, 11"):
        assign(rows, "own_folds", k=5)
    with pytest.raises(UserError, match="1 of 72 utterances have no test_fold: x/00_anger_0"):
        assign(rows.assign(test_fold=[None, *rows["test_fold"][1:]]), "own_folds", k=3)
