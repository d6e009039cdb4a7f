"""A grid of hyper-parameters through the real workflow: jobs, choice, scores, report."""

from __future__ import annotations

import json

import pytest
import yaml

from runs import copy_workflow, edited, planned, snakemake
from serflow.posteriors import read_posteriors
from serflow.tables import SCORES
from small_emodb import SMALL_STUDY, with_emodb, write_small_emodb

GRID = {"classifier": ["svm", "logistic_regression"]}
POINTS = [f"svm--classifier-{classifier}" for classifier in GRID["classifier"]]
CONFIG = ("--config", "studies=[small]")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The small study, each fold with dev speakers, one system with a grid."""
    base = tmp_path_factory.mktemp("grids")
    folder = copy_workflow(base / "clone")
    emodb = write_small_emodb(base / "EmoDB", speakers=("03", "08", "09"))
    study = yaml.safe_load(SMALL_STUDY)
    study["folds"] |= {"dev": "next_fold"}
    study["systems"]["svm"]["grid"] = {"over": GRID}
    del study["fusions"], study["systems"]["lr"]
    path = folder / "studies" / "small.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    with_emodb(folder, emodb)
    snakemake(folder, "--cores", "2", *CONFIG)
    return folder


def trained(jobs: list[str]) -> list[str]:
    return [job for job in jobs if job.startswith("train_fold")]


def test_each_fold_takes_the_point_that_its_own_dev_rows_prefer(project):
    """With one choice for all folds, the rows of one fold's test would have a say in another's."""
    results = project / "results/small/seed-1"
    grid = json.loads((results / "grids/svm.json").read_text())
    assert list(grid["scores"]) == POINTS
    final = read_posteriors(results / "posteriors/raw/svm.parquet")
    assert set(final.rows["system"]) == {"svm"}
    for fold, point in grid["folds"].items():
        best = max(grid["scores"].values(), key=lambda by_fold: by_fold[fold])[fold]
        assert grid["scores"][point][fold] == best
        source = read_posteriors(results / f"systems/{point}/fold-{fold}/posteriors.parquet")
        rows = (final.rows["fold"] == fold).to_numpy()
        assert (final.log_proba[rows] == source.log_proba).all()
        facts = json.loads((results / f"systems/svm/fold-{fold}/facts.json").read_text())
        assert facts["grid_point"] == grid["points"][point]


def test_untouched_test_rows_are_not_called_optimistic(project):
    scores = SCORES.read(project / "results/small/scores.parquet")
    told = scores[(scores["role"] == "test") & (scores["metric"] == "macro_f1")]["definition"]
    assert not told.str.contains("chose").any()
    page = (project / "results/small/report.html").read_text(encoding="utf-8")
    assert "2 points, 3 folds and 1 seed each; Macro-F1 on dev rows chooses" in page
    assert "optimistic" not in page


@pytest.mark.parametrize(
    ("values", "anew"),
    [
        (["svm", "logistic_regression", "lda"], "classifier-lda"),
        (["svm"], None),
        (["lda", "logistic_regression"], "classifier-lda"),
    ],
    ids=["added", "removed", "changed"],
)
def test_a_point_added_later_runs_alone(project, values, anew):
    """Twenty-five fine-tunings of a language model are not done again for the twenty-sixth."""
    path = project / "studies/small.yaml"
    before = path.read_text(encoding="utf-8")
    study = yaml.safe_load(before)
    study["systems"]["svm"]["grid"]["over"]["classifier"] = values
    with edited(path, before, yaml.safe_dump(study, sort_keys=False)):
        jobs = planned(project, *CONFIG)
    found = trained(jobs)
    assert len(found) == (3 if anew else 0)
    assert all(f"system=svm--{anew}" in job for job in found)
    assert any(job.startswith("score_grid") for job in jobs)
    assert not trained(planned(project, *CONFIG))
