"""Classes that are learnt and never scored: TalTech's X (no agreement) and O (other)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from serflow.context import Context
from serflow.errors import UserError
from serflow.systems.fold_run import join_fold, train_and_score
from serflow.systems.interface import Predicted, build
from serflow.tables import UTTERANCES

CLASSES, TRAIN_ONLY = ["angry", "happy"], ["other"]
MEANS = {"angry": [3, 0, 0], "happy": [0, 3, 0], "other": [0, 0, 3]}


def data(**columns):
    """Sixty training and twenty test rows with embeddings that tell their label."""
    rng = np.random.default_rng(0)
    train = ["angry"] * 10 + ["happy"] * 20 + ["other"] * 30
    labels = train + CLASSES * 10
    names = [f"x/{i}" for i in range(len(labels))]
    utterances = pd.DataFrame(
        {"utterance_id": names, "corpus": "x", "label": labels, "speaker": "s"} | columns
    ).reindex(columns=list(UTTERANCES.columns))
    roles = ["train"] * len(train) + ["test"] * 20
    folds = pd.DataFrame({"utterance_id": names, "fold": "0", "role": roles})
    vectors = np.array([MEANS[label] for label in labels]) + 0.5 * rng.normal(size=(80, 3))
    return utterances, folds, pd.DataFrame(vectors, index=names)


class Told:
    """Says what it was told, over all classes that it learns."""

    train_prior_ = np.array([0.2, 0.3, 0.5])
    facts_ = {}

    def fit(self, train, dev):
        self.labels = train.labels
        return self

    def predict(self, examples):
        return Predicted(np.log(np.tile([0.1, 0.3, 0.6], (len(examples), 1))))


def test_posteriors_and_prior_are_given_that_it_is_a_class_of_the_study():
    """A mass on 'other' would make every test row less sure, and the rebalancing wrong."""
    utterances, folds, _ = data()
    fold = join_fold(utterances, folds, "0", CLASSES, TRAIN_ONLY)
    system = Told()
    posteriors = train_and_score(system, "told", fold, 1, "digest")["posteriors"]
    assert np.bincount(system.labels).tolist() == [10, 20, 30]
    assert posteriors.classes == ("angry", "happy")
    assert np.exp(posteriors.log_proba[0]) == pytest.approx([0.25, 0.75])
    assert posteriors.priors["0"] == pytest.approx([0.4, 0.6])
    posteriors.check("test")


@pytest.mark.parametrize("classifier", ["logistic_regression", "plda"])
def test_a_backend_leaves_them_out_and_expresses_a_uniform_prior(classifier, tmp_path):
    utterances, folds, embeddings = data()
    fold = join_fold(utterances, folds, "0", CLASSES, TRAIN_ONLY, embeddings=embeddings)
    settings = {
        "family": "embedding_backend",
        "embeddings": "speech",
        "dim": 2,
        "classifier": classifier,
        "normalise_length": False,
    }
    context = Context([*CLASSES, *TRAIN_ONLY], 1, tmp_path, train_only=1)
    system = build("embedding_backend", settings, context)
    posteriors = train_and_score(system, "lda", fold, 1, "digest")["posteriors"]
    assert system.facts_["training_rows"] == 30
    assert posteriors.priors["0"] == pytest.approx([0.5, 0.5])
    assert (posteriors.log_proba.argmax(axis=1) == posteriors.labels).mean() > 0.9


def test_gender_makes_more_classes_and_its_absence_is_named(tmp_path):
    settings = {
        "family": "embedding_backend",
        "embeddings": "speech",
        "dim": 3,
        "mode": "emotion_x_gender",
    }
    context = Context([*CLASSES, *TRAIN_ONLY], 1, tmp_path, train_only=1)

    def fit(**columns):
        utterances, folds, embeddings = data(**columns)
        fold = join_fold(utterances, folds, "0", CLASSES, TRAIN_ONLY, embeddings=embeddings)
        system = build("embedding_backend", settings, context)
        train_and_score(system, "x", fold, 1, "d")
        return system.facts_

    assert fit(gender=["female", "male"] * 40)["dimensions"] == 3
    with pytest.raises(UserError, match=r"backend of 'speech' cannot be fitted: .*gender"):
        fit()
