"""Posteriors tables of systems that are right to a known degree, without any speech."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from serflow.posteriors import Posteriors

CLASSES = ("angry", "happy", "sad")
SPEAKERS = pd.DataFrame(
    [
        (f"c/{fold}-{role}-{i}", "c", f"{role}-{fold}-{i % 5}")
        for fold in "012"
        for role in ("dev", "test")
        for i in range(60)
    ],
    columns=["utterance_id", "corpus", "speaker"],
)


def system(name, noise, seed, folds=("0",), roles=("dev", "test"), n=60):
    """Noisy posteriors of utterances whose labels all systems share."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [
            (f"c/{fold}-{role}-{i}", name, fold, role, CLASSES[i % 3])
            for fold in folds
            for role in roles
            for i in range(n)
        ],
        columns=["utterance_id", "system", "fold", "role", "label"],
    )
    truth = np.eye(3)[rows["label"].map(CLASSES.index)]
    scores = 2 * truth + noise * rng.standard_normal((len(rows), 3))
    priors = {fold: np.array([0.6, 0.3, 0.1]) for fold in folds}
    return Posteriors(rows, log_softmax(scores, axis=1), CLASSES, priors, 1, name)


def both(**kwargs):
    return {"one": system("one", 1.5, 1, **kwargs), "two": system("two", 1.5, 2, **kwargs)}
