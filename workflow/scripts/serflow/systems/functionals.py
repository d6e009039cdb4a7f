"""The `functionals` family: acoustic functionals and a classifier of scikit-learn.

Features are mapped to normal scores and rotated on the training rows of the fold. A small grid is
searched by balanced accuracy over speaker-disjoint parts of those rows; nothing of the dev or test
speakers is seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer
from sklearn.svm import SVC

from serflow.backends import WithinClassWhitening
from serflow.config.families.functionals import FunctionalsConfig
from serflow.context import Context
from serflow.errors import UserError
from serflow.systems import saved
from serflow.systems.interface import Examples, Predicted


def build(settings: dict[str, Any], context: Context) -> Functionals:
    """Build the system from its settings."""
    return Functionals(FunctionalsConfig.model_validate(settings), context)


class Functionals:
    """Functionals, whitening within classes, and one classifier; see `System`."""

    def __init__(self, settings: FunctionalsConfig, context: Context) -> None:
        self.settings = settings
        self.context = context
        self.n_classes = len(context.classes)
        self.seed = context.seed

    def fit(self, train: Examples, dev: Examples | None) -> Functionals:
        """Search the grid inside the training rows and refit on all of them; dev is not used."""
        self.scaler_ = _scaler(len(train), self.seed).fit(train.functionals)
        features = self.scaler_.transform(train.functionals)
        splits = _inner_splits(train, self.settings.inner_folds)
        model, grid = _classifier(self.settings.classifier, self.n_classes)
        search = GridSearchCV(model, grid, cv=splits, scoring="balanced_accuracy")
        search.fit(features, train.labels)
        self.model_ = search.best_estimator_
        if not hasattr(self.model_, "predict_proba"):
            # One temperature for the decision values, fitted on out-of-fold ones.
            self.model_ = CalibratedClassifierCV(
                self.model_, method="temperature", cv=splits, ensemble=False
            ).fit(features, train.labels)
        # Every classifier here weighs the classes equally.
        self.train_prior_ = np.full(self.n_classes, 1 / self.n_classes)
        self.facts_ = {
            "classifier": self.settings.classifier,
            "features": int(features.shape[1]),
            "chosen": {name.split("__")[-1]: value for name, value in search.best_params_.items()},
            "inner_balanced_accuracy": float(search.best_score_),
        }
        return self

    def predict(self, examples: Examples) -> Predicted:
        """Posteriors."""
        proba = self.model_.predict_proba(self.scaler_.transform(examples.functionals))
        with np.errstate(divide="ignore"):
            return Predicted(np.log(proba))

    def save(self, folder: Path) -> None:
        """Write what was chosen: with it, fitting anew takes seconds."""
        block = self.settings.model_dump(mode="json")
        saved.write_record(folder, block, self.context, self.train_prior_, facts=self.facts_)


def _scaler(n: int, seed: int) -> Pipeline:
    """Normal scores of each feature, clipped, then rotated (all components: only for speed).

    Of more than 10,000 rows scikit-learn takes the quantiles of a random part: hence the seed.
    """
    return Pipeline(
        [
            (
                "gauss",
                QuantileTransformer(
                    n_quantiles=min(100, n), output_distribution="normal", random_state=seed
                ),
            ),
            # Values outside the training range would go to 5.2 standard deviations.
            ("clip", FunctionTransformer(np.clip, kw_args={"a_min": -3, "a_max": 3})),
            ("rotate", PCA()),
        ]
    )


def _inner_splits(train: Examples, n_folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Speaker-disjoint splits; stratified ones where the training rows have a single speaker."""
    speakers = len(set(train.speakers))
    if speakers >= 2:
        splitter = GroupKFold(min(n_folds, speakers))
        splits = splitter.split(train.functionals, train.labels, train.speakers)
    else:
        n_folds = min(n_folds, int(np.bincount(train.labels).min()))
        if n_folds < 2:
            raise UserError(
                "the search for hyper-parameters needs two training speakers, or two training "
                "utterances of every class; give more, or map or drop the class in `labels`"
            )
        splits = StratifiedKFold(n_folds).split(train.functionals, train.labels)
    splits = list(splits)
    for fitted, _ in splits:
        if len(set(train.labels[fitted])) < len(set(train.labels)):
            raise UserError(
                f"the search for hyper-parameters over {len(splits)} parts of the training rows "
                "leaves a part without some class; lower inner_folds, or give more speakers"
            )
    return splits


def _classifier(name: str, n_classes: int) -> tuple[BaseEstimator, dict[str, list[float]]]:
    """An unfitted classifier with equal class weights, and its grid."""
    whiten, shrinkage = ("whiten", WithinClassWhitening()), [0.1, 0.3, 0.5]
    if name == "lda":
        priors = np.full(n_classes, 1 / n_classes)
        lda = LinearDiscriminantAnalysis(solver="lsqr", priors=priors)
        return lda, {"shrinkage": [0.1, 0.3, 0.5, 0.7]}
    if name == "logistic_regression":
        classify = LogisticRegression(class_weight="balanced", max_iter=300)
        grid = {"classify__C": [1, 10]}
    else:
        classify = SVC(class_weight="balanced", break_ties=True)
        grid = {"classify__C": [1, 10], "classify__gamma": [0.1, 0.3]}
    return Pipeline([whiten, ("classify", classify)]), {"whiten__shrinkage": shrinkage, **grid}
