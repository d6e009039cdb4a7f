"""Posteriors of other programs: every row found, none guessed at, none lost."""

from __future__ import annotations

import os
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import log_softmax

from runs import ROOT
from serflow.config.load import load_study
from serflow.config.site import SiteConfig
from serflow.config.study import StudyConfig
from serflow.errors import UserError
from serflow.given import given_posteriors, log_posteriors
from serflow.given_files import read_given
from serflow.plan import Plan

CLASSES = ["joy", "fear"]
SAME = {label: label for label in CLASSES}
IDS = ["a", "b", "c", "d"]
PROBA = np.array([[0.75, 0.25], [0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])
FRAME = pd.DataFrame(PROBA, columns=CLASSES).assign(utterance_id=IDS)
UTTERANCES = pd.DataFrame(
    {"utterance_id": [f"mine/{i}" for i in IDS], "label": ["joy", "joy", "fear", "joy"]}
)


def folds(*roles):
    """Rows of (utterance, fold, role)."""
    frame = pd.DataFrame(roles, columns=["utterance_id", "fold", "role"])
    return frame.assign(utterance_id="mine/" + frame["utterance_id"])


# a and b are tested by a model of c and d, and the other way round.
TWO = folds(
    ("a", "0", "test"), ("b", "0", "test"), ("c", "0", "train"), ("d", "0", "train"),
    ("a", "1", "train"), ("b", "1", "train"), ("c", "1", "test"), ("d", "1", "test"),
)  # fmt: skip


def write(folder, name, frame=FRAME):
    """The frame in the format that the name says, and the settings that go with it."""
    path = folder / name
    numbers = frame.drop(columns="utterance_id")
    if name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".tsv"):
        frame.to_csv(path, index=False, sep="\t")
    elif name.endswith(".parquet"):
        frame.set_index("utterance_id").to_parquet(path)
    elif name.endswith(".npy"):
        np.save(path, numbers.to_numpy())
        (folder / "ids.txt").write_text("\n".join(frame["utterance_id"]) + "\n")
        return path, {"order": list(numbers), "ids": str(folder / "ids.txt")}
    else:
        np.savez(path, p=numbers.to_numpy(), names=frame["utterance_id"].to_numpy(dtype=str))
        return path, {"order": list(numbers), "ids": "names", "array": "p"}
    return path, {}


def read(folder, name="p.csv", frame=FRAME, columns=SAME, **settings):
    path, more = write(folder, name, frame)
    return read_given(path, columns, whose="systems.x", **more, **settings)


def imported(given, rows=TWO, **changes):
    settings = {
        "system": "x",
        "where": "systems.x: p.csv",
        "classes": CLASSES,
        "values": "probabilities",
        "train_prior": "uniform",
        "fold_names": {fold: fold for fold in rows["fold"].unique()},
        "extra": "refuse",
        "seed": 1,
        "system_digest": "d",
    }
    return given_posteriors(given, UTTERANCES, rows, **settings | changes)


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.parquet", "p.npy", "p.npz"])
def test_every_format_says_the_same(tmp_path, name):
    shuffled = FRAME.iloc[[3, 1, 0, 2]][["fear", "utterance_id", "joy"]]
    posteriors, facts = imported(read(tmp_path, name, shuffled))
    assert posteriors.rows["utterance_id"].tolist() == [f"mine/{i}" for i in IDS]
    assert posteriors.rows["fold"].tolist() == ["0", "0", "1", "1"]
    assert np.allclose(np.exp(posteriors.log_proba), PROBA, atol=1e-12)
    posteriors.write(tmp_path / "table.parquet")
    assert facts["rows_in_file"] == 4 and facts["rows_of_no_utterance"] == 0


def test_logits_and_logarithms_and_rounded_probabilities_are_the_same_posteriors():
    logits = np.random.default_rng(0).normal(size=(50, 2)) * 5
    given = pd.DataFrame(logits, columns=CLASSES).assign(utterance_id="u")
    found, deviation = log_posteriors(given, CLASSES, "logits", "x")
    assert np.allclose(found, log_softmax(logits, axis=1)) and deviation == 0
    given[CLASSES] = found
    assert np.allclose(log_posteriors(given, CLASSES, "log_probabilities", "x")[0], found)
    given[CLASSES] = np.exp(found).astype("float16")
    rounded, deviation = log_posteriors(given, CLASSES, "probabilities", "x")
    assert np.allclose(np.exp(rounded), np.exp(found), atol=1e-3) and 0 < deviation < 1e-3
    assert np.allclose(np.exp(rounded).sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "cells", "message"),
    [
        ("probabilities", [0.5, 0.4], r"1 of 1 rows do not sum to 1: row 1 \(a\) sums to 0.9"),
        ("probabilities", [1.5, -0.5], "have negative probabilities: row 1"),
        ("probabilities", [2.0, 3.0], "sums to 5. `values` says what the columns hold"),
        ("probabilities", [np.inf, 0.0], "do not sum to 1"),
        ("log_probabilities", [np.log10(0.5)] * 2, "sums to 1.48"),
        ("log_probabilities", [1e6, 0.0], "sums to inf"),
        ("logits", [np.inf, 0.0], "have infinite logits"),
    ],
)
def test_values_that_are_not_what_the_study_says_are_refused(values, cells, message):
    """Logits taken for probabilities, or decimal logarithms, would still give a ranking."""
    given = pd.DataFrame([cells], columns=CLASSES, index=[1]).assign(utterance_id="a")
    with pytest.raises(UserError, match=message):
        log_posteriors(given, CLASSES, values, "x")


def test_a_certain_posterior_of_zero_stays_one(tmp_path):
    posteriors, _ = imported(read(tmp_path))
    assert np.isneginf(posteriors.log_proba[3, 1])


def test_ids_may_have_the_corpus_before_them_and_numbers_stay_names(tmp_path):
    whole = FRAME.assign(utterance_id="mine/" + FRAME["utterance_id"])
    assert np.array_equal(
        imported(read(tmp_path, frame=whole))[0].log_proba, imported(read(tmp_path))[0].log_proba
    )
    numbered = FRAME.assign(utterance_id=["007", "08", "9", "10"])
    assert read(tmp_path, frame=numbered)["utterance_id"].tolist() == ["007", "08", "9", "10"]


def test_one_id_of_two_corpora_is_no_id(tmp_path):
    """Speaker 03 of one corpus is not that of another, nor is recording 03a01."""
    both = pd.concat([UTTERANCES, UTTERANCES.assign(utterance_id="other/" + pd.Series(IDS))])
    rows = pd.concat(
        [TWO, TWO.assign(utterance_id=TWO["utterance_id"].str.replace("mine", "other"))]
    )
    settings = {"fold_names": {"0": "0", "1": "1"}, "extra": "refuse", "seed": 1}
    settings |= {"system": "x", "where": "x", "classes": CLASSES, "values": "probabilities"}
    with pytest.raises(UserError, match=r"4 ids are those of utterances in several corpora: a, b"):
        given_posteriors(
            read(tmp_path), both, rows, train_prior="uniform", system_digest="d", **settings
        )


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.head(3), r"lacks 1 of 4 rows to be scored: mine/d \(test of fold 1\)"),
        (
            pd.concat([FRAME, FRAME.head(1).assign(utterance_id="a.wav")]),
            r"1 of 5 rows are of no utterance of the study, as mine/a, mine/b .*: row 5 \(a.wav\)",
        ),
        (pd.concat([FRAME, FRAME.head(1)]), r"rows are there before: row 5 \(a\).*fold_column"),
        (
            pd.concat([FRAME, FRAME.head(1).assign(utterance_id="mine/a")]),
            r"there before: row 5 \(mine/a\)",
        ),
    ],
)
def test_rows_too_few_or_too_many_are_named(tmp_path, frame, message):
    with pytest.raises(UserError, match=message):
        imported(read(tmp_path, frame=frame))


def test_rows_of_no_utterance_are_let_go_of_where_the_study_says_so_and_counted(tmp_path):
    more = pd.concat([FRAME, FRAME.assign(utterance_id="x" + FRAME["utterance_id"])])
    posteriors, facts = imported(read(tmp_path, frame=more), extra="ignore")
    assert len(posteriors.rows) == 4 and facts["rows_of_no_utterance"] == 4


@pytest.mark.parametrize(
    ("frame", "settings", "message"),
    [
        (FRAME.assign(label="joy"), {}, "has the unknown columns label; .*ignore"),
        (FRAME, {"columns": SAME | {"joy": "p_joy"}}, r"lacks the columns p_joy \(near joy\)"),
        (FRAME, {"id_column": "file"}, "lacks the columns file"),
        (FRAME, {"ignore": ["speaker"]}, "lacks the columns speaker"),
        (FRAME.assign(joy=[0.5, None, 0.1, 1]), {}, r"nothing, or NaN, in 'joy': row 2 \(b\)"),
        (FRAME.assign(joy=["0.5", "x", "1", "1"]), {}, "'joy' in p.csv holds 'x' in row 2"),
        (FRAME.assign(utterance_id=["a", "", "c", "d"]), {}, "NaN, in 'utterance_id': row 2"),
    ],
)
def test_a_file_that_is_not_as_declared_names_column_and_row(tmp_path, frame, settings, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, frame=frame, **settings)
    if "label" in frame:
        assert len(read(tmp_path, frame=frame, ignore=["label"])) == 4


def test_a_numpy_file_without_numbers_in_order_is_refused(tmp_path):
    path, more = write(tmp_path, "p.npy")

    def fails(message, values=PROBA, **changes):
        np.save(path, values)
        with pytest.raises(UserError, match=message):
            read_given(path, SAME, whose="systems.x", **more | changes)

    fails(r"shape \(4, 3\) and type float64; expected numbers, \(utterances, 2\)", np.ones((4, 3)))
    fails(r"shape \(4,\)", np.ones(4))
    fails("type <U1", np.full((4, 2), "x"))
    fails("has 3 rows, and .*ids.txt 4 ids", PROBA[:3])
    fails(r"no table", fold_column="fold")
    objects = np.array([["x", None]] * 4, dtype=object)
    fails(r"cannot read .*pickled objects are not loaded", objects)
    np.savez(tmp_path / "p.npz", p=PROBA, names=np.array(IDS, dtype=object))
    with pytest.raises(UserError, match="pickled objects are not loaded"):
        read_given(tmp_path / "p.npz", SAME, whose="x", order=CLASSES, ids="names", array="p")
    with pytest.raises(UserError, match="has no array 'q'; it has p, names"):
        read_given(tmp_path / "p.npz", SAME, whose="x", order=CLASSES, ids="names", array="q")
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read .*p.npy"):
        read_given(path, SAME, whose="systems.x", **more)


# The next fold is this one's dev set: both models predict every utterance.
NEXT = folds(
    ("a", "0", "test"), ("b", "0", "test"), ("c", "0", "dev"), ("d", "0", "dev"),
    ("a", "1", "dev"), ("b", "1", "dev"), ("c", "1", "test"), ("d", "1", "test"),
)  # fmt: skip


def test_each_fold_takes_the_rows_of_its_own_model(tmp_path):
    """With one model's row for both, dev rows would be scored by a model that was trained on them."""
    with pytest.raises(UserError, match="4 utterances are predicted in several folds"):
        imported(read(tmp_path), NEXT)
    other = FRAME.assign(joy=FRAME["fear"], fear=FRAME["joy"])
    both = pd.concat([FRAME.assign(fold="9"), other.assign(fold="10")])
    given = read(tmp_path, frame=both, fold_column="fold")
    posteriors, _ = imported(given, NEXT, fold_names={"0": "9", "1": "10"})
    assert np.allclose(np.exp(posteriors.log_proba), np.concatenate([PROBA, PROBA[:, ::-1]]))
    with pytest.raises(UserError, match=r"8 of 8 rows are of no fold .*, which has 0, 1: row 1"):
        imported(given, NEXT)
    half = read(tmp_path, frame=both.iloc[:-1], fold_column="fold")
    with pytest.raises(UserError, match=r"lacks 1 of 8 .*mine/d \(test of fold 1\)"):
        imported(half, NEXT, fold_names={"0": "9", "1": "10"})


def test_the_prior_of_each_fold_is_what_its_models_were_trained_with(tmp_path):
    """Rebalancing divides by it; that of all labels would count the test rows in."""
    given = read(tmp_path)
    assert imported(given)[0].priors["0"].tolist() == [0.5, 0.5]
    found = imported(given, train_prior="from_train_rows")[0].priors
    assert found["0"].tolist() == [0.5, 0.5] and found["1"].tolist() == [1, 0]
    mapped = imported(given, train_prior={"fear": 0.9, "joy": 0.1})[0].priors
    assert mapped["1"].tolist() == [0.1, 0.9]
    with pytest.raises(UserError, match="fold 0 has no training row: give the prior as a mapping"):
        imported(given, TWO[TWO["role"] == "test"], train_prior="from_train_rows")


EXAMPLE = ROOT / "studies/posteriors_only.yaml"


@pytest.mark.parametrize(
    ("system", "change", "message"),
    [
        ("svm", {"file": "p.pkl"}, "expected one of .csv"),
        ("svm", {"order": ["joy"]}, "order is given, but a .csv file has no use for it"),
        ("plain", {"ids": None}, "ids is missing, which a .npy file needs"),
        ("plain", {"order": ["anger", "fear"]}, "order lacks 'boredom'"),
        ("svm", {"columns": {"joy": "p"}}, "columns names 'joy', which is not one of the classes"),
        ("svm", {"train_prior": {"anger": 1.0}}, "must name exactly the study's classes"),
        ("svm", {"train_prior": None}, "train_prior"),
        ("svm", {"grid": {"over": {"extra": ["refuse", "ignore"]}}}, "nothing is trained here"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_refused_before_any_job(
    tmp_path, system, change, message
):
    study = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    study["systems"][system] |= change
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_study(tmp_path / "s.yaml")


def test_given_posteriors_are_of_their_own_folds_and_of_no_others(tmp_path):
    """Under other folds they would be shown as if the models had been trained under these."""
    study = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    folds = {"protocol": "stratified_k_fold", "k": 5}
    study["contrasts"] = {"random": {"folds": folds}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    with pytest.raises(UserError, match=r"contrasts.random: the posteriors of \w+ are given"):
        load_study(tmp_path / "s.yaml")


def planned(folder, **changes):
    """The plan of a study whose only system is a file in `folder`."""
    given = {"family": "given", "file": str(folder / "p-{seed}.csv"), "values": "probabilities"}
    study = StudyConfig(
        title="x",
        classes=CLASSES,
        corpora={"mine": {"source": "table", "audio": None, "folder": str(folder)}},
        folds={"protocol": "own_folds", "k": 2},
        systems={"x": given | {"train_prior": "uniform"} | changes},
        seeds=[1, 2],
    )
    return Plan(SiteConfig(), {"s": study}, ROOT / "workflow/scripts")


def test_a_file_enters_by_what_it_holds_and_not_by_its_date(tmp_path):
    """A replaced file must rerun its system; a fresh clone, which has new dates, nothing."""
    files = [tmp_path / f"p-{seed}.csv" for seed in (1, 2)]
    for file in files:
        file.write_text("old")

    def settings(**changes):
        wildcards = [SimpleNamespace(study="s", system="x", seed=seed) for seed in (1, 2)]
        plan = planned(tmp_path, **changes)
        return [plan.given_settings(w) for w in wildcards]

    before = settings()
    os.utime(files[1], (0, 0))
    assert settings() == before
    files[1].write_text("new")
    assert [now == then for now, then in zip(settings(), before, strict=True)] == [True, False]
    assert settings(train_prior="from_train_rows")[0] != before[0]


def test_a_file_that_is_not_there_stops_before_any_job(tmp_path):
    """No rule makes it, so Snakemake itself would miss nothing while old results are there."""
    (tmp_path / "p-1.csv").write_text("x")
    with pytest.raises(UserError, match=r"studies/s.yaml: systems.x names '.*p-2.csv', but there"):
        planned(tmp_path)


def test_only_the_tables_of_given_systems_come_from_files(tmp_path):
    for seed in (1, 2):
        (tmp_path / f"p-{seed}.csv").write_text("x")
    pattern = re.compile(planned(tmp_path).given_tables())
    assert pattern.match("s/seed-1/posteriors/raw/x.parquet")
    assert pattern.match("s/seed-12/given/x.json")
    for other in ("s/seed-1/posteriors/raw/xy.parquet", "t/seed-1/posteriors/raw/x.parquet"):
        assert not pattern.match(other)
    assert not pattern.match("s/seed-1/posteriors/rebalanced/x.parquet")
