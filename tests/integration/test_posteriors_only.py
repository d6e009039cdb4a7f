"""The study of given posteriors as it is shipped: from files to the report, without any model."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from runs import ROOT, copy_workflow, edited, planned, snakemake
from serflow.posteriors import read_posteriors
from serflow.tables import SCORES

EXAMPLE = "docs/examples/posteriors_only"
STUDY = ["--config", "studies=[posteriors_only]"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_workflow(tmp_path_factory.mktemp("given") / "clone")
    shutil.copytree(ROOT / EXAMPLE, folder / EXAMPLE)
    study = folder / "studies/posteriors_only.yaml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("resamples: 10000", "resamples: 200"), encoding="utf-8")
    snakemake(folder, "--cores", "2", *STUDY)
    return folder


@pytest.fixture(scope="module")
def scores(project):
    frame = SCORES.read(project / "results/posteriors_only/scores.parquet")
    whole = (frame["label"] == "") & (frame["scope"] == "pooled")
    return frame[whole].set_index(["system", "stage", "metric"])["value"]


def test_nothing_is_trained_and_nothing_heard(project):
    results = project / "results"
    assert not list((results / "posteriors_only").rglob("systems"))
    assert not (results / "models").exists()
    page = (results / "posteriors_only/report.html").read_text(encoding="utf-8")
    assert "Import posteriors" in page
    for absent in ("Train and predict", "Export posteriors", "Fingerprint audio"):
        assert absent not in page


def test_the_figures_are_those_of_the_study_that_the_files_come_from(scores):
    """docs/emodb.md: 0.836 and 0.611, and 0.852 for both; the CSV has four decimals."""
    uar = {key: scores[(*key, "uar")] for key in (("svm", "raw"), ("network", "raw"))}
    assert uar["svm", "raw"] == pytest.approx(0.836, abs=0.0015)
    assert scores["interpolation", "fused", "uar"] > uar["svm", "raw"] > uar["network", "raw"]


def test_a_model_without_class_weights_gains_recall_by_rebalancing_and_one_with_none(scores):
    """What `train_prior` is for: the one has learnt the class frequencies, the other has not."""
    assert scores["plain", "rebalanced", "uar"] > scores["plain", "raw", "uar"] + 0.01
    assert scores["svm", "rebalanced", "uar"] == scores["svm", "raw", "uar"]


def test_every_row_of_a_file_is_the_posterior_of_its_own_utterance(project):
    given = pd.read_csv(project / EXAMPLE / "svm.csv").set_index("utterance_id")
    made = read_posteriors(project / "results/posteriors_only/seed-1/posteriors/raw/svm.parquet")
    ids = made.rows["utterance_id"].str.removeprefix("emodb_labels/")
    assert len(ids) == 535 and ids.is_unique
    expected = given.loc[ids, list(made.classes)].to_numpy()
    assert np.allclose(np.exp(made.log_proba), expected, atol=3e-4)
    owners = pd.read_csv(project / EXAMPLE / "utterances.csv", dtype=str).set_index("utterance_id")
    assert owners.loc[ids, "label"].tolist() == made.rows["label"].tolist()
    folds = made.rows["fold"].groupby(owners.loc[ids, "test_fold"].to_numpy()).nunique()
    assert len(folds) == 10 and (folds == 1).all()


def test_a_replaced_file_renews_its_own_system_and_a_touched_one_nothing(project):
    file = project / EXAMPLE / "svm.csv"
    assert planned(project, *STUDY) == []
    (project / EXAMPLE / "network.parquet").touch()
    first = file.read_text(encoding="utf-8").splitlines()[1]
    values = first.split(",")
    swapped = ",".join([values[0], *values[1:][::-1]])
    with edited(file, first, swapped):
        jobs = planned(project, *STUDY)
    assert [job for job in jobs if "system=" in job] == [
        "import_posteriors study=posteriors_only, seed=1, system=svm",
        "rebalance_posteriors study=posteriors_only, seed=1, system=svm",
    ]
    fused = {job.rpartition("=")[2] for job in jobs if job.startswith("fuse_systems")}
    assert fused == {"interpolation", "all_three"}
    assert not [job for job in jobs if "corpus=" in job or "folds" in job]


def test_a_file_with_a_row_too_few_stops_the_run_with_the_utterance_named(project):
    file = project / EXAMPLE / "svm.csv"
    last = file.read_text(encoding="utf-8").splitlines()[-1]
    target = "results/posteriors_only/seed-1/posteriors/raw/svm.parquet"
    with edited(file, f"{last}\n", ""):
        done = snakemake(project, "--cores", "1", target, *STUDY, check=False)
    assert done.returncode != 0
    assert "systems.svm: docs/examples/posteriors_only/svm.csv lacks 1 of 535 rows" in done.stdout
    assert f"emodb_labels/{last.split(',')[0]} (test of fold 9)" in done.stdout
    assert "Traceback" not in done.stdout
