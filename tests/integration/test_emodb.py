"""The real Berlin EmoDB: the figure that the functionals must reach, without test information."""

from __future__ import annotations

import numpy as np
import pytest

from runs import copy_workflow, snakemake
from serflow.metrics import METRICS, confusion
from serflow.posteriors import read_posteriors
from serflow.tables import FOLDS, UTTERANCES
from small_emodb import with_emodb

TABLE = "results/emodb/seed-1/posteriors/raw/functionals_svm.parquet"


@pytest.fixture(scope="module")
def emodb_run(tmp_path_factory, emodb_folder):
    folder = copy_workflow(tmp_path_factory.mktemp("emodb") / "clone")
    with_emodb(folder, emodb_folder)
    snakemake(folder, "--cores", "2", TABLE, "--config", "studies=[emodb]")
    return folder


def test_functionals_reach_080_unweighted_recall_leaving_one_speaker_out(emodb_run):
    posteriors = read_posteriors(emodb_run / TABLE)
    assert len(posteriors.rows) == 535
    assert posteriors.rows["utterance_id"].is_unique
    counts = confusion(posteriors.labels, posteriors.log_proba.argmax(axis=1), 7)
    assert float(METRICS["uar"](counts)) >= 0.80


def test_no_fold_trains_on_its_test_speaker(emodb_run):
    speakers = UTTERANCES.read(emodb_run / "results/emodb/utterances.parquet")
    folds = FOLDS.read(emodb_run / "results/emodb/folds.parquet").merge(
        speakers[["utterance_id", "speaker"]], on="utterance_id"
    )
    for _, fold in folds.groupby("fold"):
        train, test = (set(fold.loc[fold["role"] == r, "speaker"]) for r in ("train", "test"))
        assert len(test) == 1
        assert len(train) == 9
        assert not train & test


def test_the_listeners_judgements_came_along(emodb_run):
    rows = UTTERANCES.read(emodb_run / "results/emodb/utterances.parquet")
    assert rows["recognition"].between(0, 1).all()
    assert np.isclose(rows.set_index("utterance_id").at["emodb/03a01Fa", "recognition"], 0.9)
