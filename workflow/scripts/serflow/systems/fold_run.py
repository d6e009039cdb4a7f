"""Train one system on one fold, and score the fold's dev and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from serflow.attributes import Attributes, Scale
from serflow.audio import AudioStore
from serflow.digests import canonical, digest
from serflow.errors import UserError, name_some
from serflow.layer_means import LayerMeans
from serflow.posteriors import Posteriors
from serflow.predictions import Predictions
from serflow.systems.interface import Examples, System


@dataclass(frozen=True)
class Fold:
    """The labelled utterances of one fold, with the inputs of one system family.

    Attributes
    ----------
    rows : DataFrame
        utterance_id, fold, role, label, speaker, audio_digest; one row an utterance.
    classes : sequence of str
        The study's, in its order.
    train_only : sequence of str
        Further classes of training rows; they follow the others in the systems' own order.
    scale : Scale or None
        The study's attributes; None for a study without.
    audio : AudioStore or None
    functionals : DataFrame or None
        Indexed by utterance id.
    texts : Series or None
        Indexed by utterance id.
    embeddings : DataFrame or None
        Indexed by utterance id.
    layer_means : LayerMeans or None
    """

    rows: pd.DataFrame
    classes: Sequence[str]
    train_only: Sequence[str] = ()
    scale: Scale | None = None
    audio: AudioStore | None = None
    functionals: pd.DataFrame | None = None
    texts: pd.Series | None = None
    embeddings: pd.DataFrame | None = None
    layer_means: LayerMeans | None = None

    def examples(self, *roles: str) -> Examples:
        """The utterances of some roles, joined with their inputs by utterance id."""
        rows = self.rows[self.rows["role"].isin(roles)]
        ids = rows["utterance_id"].tolist()
        for name, table in (
            ("functionals", self.functionals),
            ("transcripts", self.texts),
            ("embeddings", self.embeddings),
        ):
            missing = [] if table is None else sorted(set(ids) - set(table.index))
            if missing:
                raise UserError(f"{len(missing)} utterances have no {name}: {name_some(missing)}")
        index = {label: i for i, label in enumerate([*self.classes, *self.train_only])}
        return Examples(
            utterance_ids=ids,
            labels=rows["label"].map(index).to_numpy(),
            # Speaker 01 of one corpus is not speaker 01 of another.
            speakers=(rows["corpus"] + "/" + rows["speaker"].fillna("")).to_numpy(dtype=str),
            genders=rows["gender"].to_numpy(dtype=object),
            audio=self.audio,
            functionals=None if self.functionals is None else self.functionals.loc[ids].to_numpy(),
            texts=None if self.texts is None else self.texts.loc[ids].tolist(),
            layer_means=None if self.layer_means is None else self.layer_means.rows(ids),
            embeddings=None if self.embeddings is None else self.embeddings.loc[ids].to_numpy(),
            attributes=None if self.scale is None else self.ratings(rows),
        )

    def ratings(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """What raters say of some rows, shape (n, n_attributes); NaN where they say nothing."""
        return rows[list(self.scale.names)].to_numpy(dtype=float)

    def data_digest(self) -> str:
        """Digest of all that training sees, so that no checkpoint outlives its data."""
        attributes = list(self.scale.names) if self.scale else []
        columns = ["utterance_id", "role", "label", "audio_digest", *attributes]
        rows = self.rows[columns].fillna("")
        ids = rows["utterance_id"].tolist()
        texts = [] if self.texts is None else self.texts.loc[ids].tolist()
        features = (
            b"" if self.functionals is None else self.functionals.loc[ids].to_numpy().tobytes()
        )
        return digest(canonical(rows.to_numpy().tolist()), canonical(texts), features)


def join_fold(
    utterances: pd.DataFrame,
    folds: pd.DataFrame,
    fold: str,
    classes: Sequence[str],
    train_only: Sequence[str] = (),
    scale: Scale | None = None,
    **inputs,
) -> Fold:
    """Join the utterances with their roles in `fold`; `inputs` are those of `Fold`."""
    roles = folds[folds["fold"] == fold]
    if roles.empty:
        raise UserError(f"folds.parquet has no fold '{fold}'; it has {sorted(set(folds['fold']))}")
    rows = roles.merge(utterances, on="utterance_id", how="left", validate="one_to_one")
    features = inputs.get("functionals")
    mute = [] if features is None else sorted(set(rows["utterance_id"]) - set(features.index))
    if mute:
        raise UserError(
            f"{len(mute)} utterances have no functionals: {name_some(mute)}. They have no audio, or "
            "too little of it: leave them out of the study (`labels.drop`, `keep`), or use systems "
            "that read text"
        )
    learnt = [*classes, *train_only]
    absent = [c for c in learnt if not ((rows["role"] == "train") & (rows["label"] == c)).any()]
    if absent:
        raise UserError(f"fold {fold} has no training row of class {name_some(absent)}")
    if scale is not None:
        _check_ratings(rows, scale)
    return Fold(rows, classes, train_only, scale, **inputs)


def _check_ratings(rows: pd.DataFrame, scale: Scale) -> None:
    values = rows[list(scale.names)]
    outside = ((values < scale.low) | (values > scale.high)).any(axis=1)
    if outside.any():
        raise UserError(
            f"the {', '.join(scale.names)} of {outside.sum()} utterances are outside the scale of "
            f"{scale.low:g} to {scale.high:g}: {name_some(rows['utterance_id'][outside])}. Correct "
            "attributes.scale in the study, or the corpus"
        )
    for name in scale.names:
        n = int(values.loc[rows["role"] == "train", name].notna().sum())
        if n < 2:
            raise UserError(
                f"{n} training utterances have a value of {name}, which attributes.names asks for: "
                "take it out there, or give the corpus's own"
            )


def train_and_score(
    system: System, name: str, fold: Fold, seed: int, system_digest: str
) -> dict[str, Posteriors | Predictions | Attributes]:
    """Fit on the train rows (dev rows may choose the epoch) and predict dev and test rows.

    Returns
    -------
    dict
        The tables of what the system predicts: 'posteriors', 'attributes', or both. Where the rows
        have no labels, as those of a submission, 'predictions' stand for posteriors.
    """
    dev = fold.examples("dev")
    system.fit(fold.examples("train"), dev if len(dev) else None)
    return score(system, name, fold, seed, system_digest)


def score(
    system: System, name: str, fold: Fold, seed: int, system_digest: str
) -> dict[str, Posteriors | Predictions | Attributes]:
    """Predict the dev and test rows of a fold with a trained system, as `train_and_score` does."""
    predicted = system.predict(fold.examples("dev", "test").without_labels())
    rows = fold.rows[fold.rows["role"].isin(["dev", "test"])]
    rows = rows.assign(system=name).reset_index(drop=True)
    tables: dict[str, Posteriors | Predictions | Attributes] = {}
    if predicted.log_proba is not None:
        prior = np.asarray(system.train_prior_, dtype=float)[: len(fold.classes)]
        prior /= prior.sum()
        log_proba = _renormalised(predicted.log_proba, len(fold.classes))
        classes = tuple(fold.classes)
        if rows["label"].isna().all():
            tables["predictions"] = Predictions(
                rows[["utterance_id", "system"]], log_proba, classes, prior, seed, system_digest
            )
        else:
            tables["posteriors"] = Posteriors(
                rows=rows[["utterance_id", "system", "fold", "role", "label"]],
                log_proba=log_proba,
                classes=classes,
                priors={str(rows["fold"].iloc[0]): prior},
                seed=seed,
                system_digest=system_digest,
            )
    if predicted.attributes is not None:
        tables["attributes"] = Attributes(
            rows=rows[["utterance_id", "system", "fold", "role"]],
            predicted=predicted.attributes,
            reference=fold.ratings(rows),
            scale=fold.scale,
            seed=seed,
            system_digest=system_digest,
        )
    return tables


def _renormalised(log_proba: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """Log-probabilities of the first classes, given that it is one of them."""
    log_proba = np.asarray(log_proba, dtype=float)
    if log_proba.shape[1] == n_classes:
        return log_proba
    kept = log_proba[:, :n_classes]
    return kept - logsumexp(kept, axis=1, keepdims=True)
