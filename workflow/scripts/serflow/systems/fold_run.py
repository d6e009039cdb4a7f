"""Train one system on one fold, and score the fold's dev and test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from serflow.audio import AudioStore
from serflow.digests import canonical, digest
from serflow.errors import UserError, name_some
from serflow.layer_means import LayerMeans
from serflow.posteriors import Posteriors
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
        )

    def data_digest(self) -> str:
        """Digest of all that training sees, so that no checkpoint outlives its data."""
        rows = self.rows[["utterance_id", "role", "label", "audio_digest"]].fillna("")
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
    return Fold(rows, classes, train_only, **inputs)


def train_and_score(
    system: System, name: str, fold: Fold, seed: int, system_digest: str
) -> tuple[Posteriors, Mapping[str, object]]:
    """Fit on the train rows (dev rows may choose the epoch) and predict dev and test rows.

    Returns
    -------
    posteriors : Posteriors
    facts : mapping
        The system's own facts, as JSON.
    """
    dev = fold.examples("dev")
    system.fit(fold.examples("train"), dev if len(dev) else None)
    scored = fold.examples("dev", "test").without_labels()
    log_proba = _renormalised(system.predict_log_proba(scored), len(fold.classes))
    prior = np.asarray(system.train_prior_, dtype=float)[: len(fold.classes)]
    rows = fold.rows[fold.rows["role"].isin(["dev", "test"])]
    rows = rows.assign(system=name)[["utterance_id", "system", "fold", "role", "label"]]
    posteriors = Posteriors(
        rows=rows.reset_index(drop=True),
        log_proba=log_proba,
        classes=tuple(fold.classes),
        priors={str(rows["fold"].iloc[0]): prior / prior.sum()},
        seed=seed,
        system_digest=system_digest,
    )
    return posteriors, system.facts_


def _renormalised(log_proba: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """Log-probabilities of the first classes, given that it is one of them."""
    log_proba = np.asarray(log_proba, dtype=float)
    if log_proba.shape[1] == n_classes:
        return log_proba
    kept = log_proba[:, :n_classes]
    return kept - logsumexp(kept, axis=1, keepdims=True)
