"""Rows without labels get what the test rows got: the same calibration, prior and weights."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, logsumexp

from serflow.attribute_fusion import fuse_attributes
from serflow.attributes import Attributes, Scale
from serflow.errors import UserError
from serflow.posteriors import Posteriors
from serflow.predictions import Predictions
from serflow.rebalancing import rebalance
from serflow.recalibration import calibrate
from serflow.stacking import METHODS, fuse, make_fusion
from serflow.unlabelled import calibrated, fused, fused_attributes, rebalanced

CLASSES = ("angry", "happy", "sad")
PRIOR = np.array([0.6, 0.3, 0.1])
SETTINGS = {"step": 0.05, "objective": "macro_f1", "C": 1.0}
FOLDS = {"one": ["0"], "three": ["0", "1", "2"]}


def system(name, seed, folds=("0",), n=60):
    """Noisy posteriors of dev and test rows whose labels all systems share."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [
            (f"{fold}-{role}-{i}", name, fold, role, CLASSES[i % 7 % 3])
            for fold in folds
            for role in ("dev", "test")
            for i in range(n)
        ],
        columns=["utterance_id", "system", "fold", "role", "label"],
    )
    scores = 2 * np.eye(3)[rows["label"].map(CLASSES.index)] + rng.standard_normal((len(rows), 3))
    return Posteriors(
        rows, log_softmax(scores, axis=1), CLASSES, dict.fromkeys(folds, PRIOR), 1, name
    )


def hidden(posteriors):
    """Its test rows as if nobody knew their labels, in another order."""
    test = (posteriors.rows["role"] == "test").to_numpy()
    order = np.random.default_rng(len(posteriors.system_digest)).permutation(np.flatnonzero(test))
    rows = posteriors.rows[["utterance_id", "system"]].iloc[order]
    return Predictions(rows, posteriors.log_proba[order], CLASSES, PRIOR, 1, "d")


def speakers(posteriors):
    ids = posteriors.rows["utterance_id"]
    return pd.DataFrame({"utterance_id": ids, "corpus": "c", "speaker": ids})


def kept(record):
    """As it comes back from its file."""
    return json.loads(json.dumps(record))


def same(predictions, posteriors):
    """Whether rows without labels have the posteriors of those that have them."""
    places = pd.Index(posteriors.rows["utterance_id"]).get_indexer(predictions.rows["utterance_id"])
    assert (places >= 0).all()
    np.testing.assert_allclose(predictions.log_proba, posteriors.log_proba[places], atol=1e-12)
    np.testing.assert_allclose(predictions.prior, posteriors.priors["0"], atol=1e-12)


def calibration_of(posteriors, method, fit_on="dev"):
    table, fits = calibrate(posteriors, method, fit_on, speakers(posteriors))
    return table, kept({"settings": {"method": method, "fit_on": fit_on}, "fits": fits})


@pytest.mark.parametrize(
    "target", ["uniform", "em", "bbse", {"angry": 0.2, "happy": 0.3, "sad": 0.5}]
)
@pytest.mark.parametrize("method", [None, "temperature", "vector", "matrix", "isotonic"])
def test_they_are_calibrated_and_rebalanced_as_the_test_rows_were(method, target):
    """From the training prior, or from the one that a calibration has taken on: not twice."""
    posteriors = system("one", 1)
    predictions = hidden(posteriors)
    if method:
        posteriors, learnt = calibration_of(posteriors, method)
        predictions = calibrated(predictions, learnt)
        same(predictions, posteriors)
    moved = rebalanced(predictions, target, posteriors)
    same(moved, rebalance(posteriors, target))


@pytest.mark.parametrize("method", METHODS)
def test_they_are_fused_as_the_test_rows_were_joined_by_id(method):
    systems = {"one": system("one", 1), "others": system("others", 2)}
    how = {"method": method, "name": "both", **SETTINGS}
    fit_on = "nothing" if method in ("mean", "majority") else "dev"
    expected, learnt = fuse(
        systems, "both", fit_on, lambda: make_fusion(how), speakers(systems["one"])
    )
    found = fused(
        {name: hidden(table) for name, table in systems.items()}, kept({"settings": how, **learnt})
    )
    assert set(found.rows["system"]) == {"both"}
    same(found, expected)


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_of_cross_fitted_calibrations_they_get_the_mean(method):
    """One fold's own would be as good as another's; the prior is that of the fit rows as well."""
    _, learnt = calibration_of(system("one", 1, FOLDS["three"]), method, "cross_fit")
    assert len(learnt["fits"]) == 3
    predictions = hidden(system("one", 5))
    each = [calibrated(predictions, learnt | {"fits": [fit]}) for fit in learnt["fits"]]
    found = calibrated(predictions, learnt)
    expected = np.mean([one.log_proba for one in each], axis=0)
    np.testing.assert_allclose(found.log_proba, log_softmax(expected, axis=1), atol=1e-12)
    np.testing.assert_allclose(found.prior, np.mean([one.prior for one in each], axis=0))


def test_of_cross_fitted_weights_they_get_the_mean():
    names = ("one", "others")
    how = {"method": "linear_interpolation", "name": "both", **SETTINGS}
    systems = {name: system(name, i, FOLDS["three"]) for i, name in enumerate(names)}
    _, learnt = fuse(
        systems, "both", "cross_fit", lambda: make_fusion(how), speakers(systems["one"])
    )
    weights = np.mean([fit["weights"] for fit in learnt["fits"]], axis=0)
    tables = {name: hidden(system(name, 5 + i)) for i, name in enumerate(names)}
    found = fused(tables, kept({"settings": how, **learnt}))
    order = pd.Index(tables["others"].rows["utterance_id"]).get_indexer(found.rows["utterance_id"])
    parts = np.stack([tables["one"].log_proba, tables["others"].log_proba[order]])
    expected = logsumexp(parts, axis=0, b=weights[:, None, None])
    np.testing.assert_allclose(found.log_proba, expected, atol=1e-12)


def test_systems_that_predict_other_rows_and_weights_of_others_are_refused():
    how = {"method": "linear_interpolation", "name": "both"}
    learnt = {"settings": how, "fits": [{"weights": [0.5, 0.5], "shares": [0.5, 0.3, 0.2]}]}
    one, two = (hidden(system(name, 1)) for name in ("one", "others"))
    short = replace(two, rows=two.rows[1:], log_proba=two.log_proba[1:])
    with pytest.raises(UserError, match="one and others differ in 1 rows: 0-test-"):
        fused({"one": one, "others": short}, learnt)
    turned = replace(two, classes=CLASSES[::-1])
    with pytest.raises(UserError, match="one and others differ in the order of their classes"):
        fused({"one": one, "others": turned}, learnt)
    with pytest.raises(UserError, match="fusion both: a fit has weights of 2 columns; expected 1"):
        fused({"one": one}, learnt)
    _, learnt = calibration_of(system("one", 1), "vector")
    narrow = replace(one, log_proba=log_softmax(one.log_proba[:, :2], axis=1))
    with pytest.raises(UserError, match="calibration of one: log-posteriors have 2 classes"):
        calibrated(narrow, learnt)


def test_a_prior_that_needs_dev_rows_is_not_estimated_without_them():
    with pytest.raises(UserError, match=r"predictions of one cannot be rebalanced: .*'bbse' needs"):
        rebalanced(hidden(system("one", 1)), "bbse")


@pytest.mark.parametrize(("folds", "fit_on"), [("one", "dev"), ("three", "cross_fit")])
def test_their_attributes_are_fused_with_the_weights_or_the_mean_of_them(folds, fit_on):
    scale = Scale(("arousal", "valence"), 1, 7)

    def rated(name, seed, known=True):
        rows = system(name, 0, FOLDS[folds]).rows[["utterance_id", "system", "fold", "role"]]
        reference = np.random.default_rng(0).uniform(1, 7, (len(rows), 2))
        noise = np.random.default_rng(seed).normal(scale=2, size=reference.shape)
        predicted = np.clip(reference + noise, 1, 7)
        blank = np.full_like(reference, np.nan)
        return Attributes(rows, predicted, reference if known else blank, scale, 1, name)

    systems = {"one": rated("one", 1), "two": rated("two", 2)}
    expected, fits = fuse_attributes(systems, "both", fit_on, 0.05, speakers(systems["one"]))
    learnt = kept({"settings": {"name": "both"}, "fits": fits})
    found = fused_attributes(
        {"one": rated("one", 1, known=False), "two": rated("two", 2, known=False)}, learnt
    )
    assert np.isnan(found.reference).all()
    if folds == "one":
        np.testing.assert_allclose(found.predicted, expected.predicted)
    weights = {n: np.mean([fit["weights"][n] for fit in fits], axis=0) for n in scale.names}
    by_hand = sum(
        weights["valence"][s] * table.predicted[:, 1] for s, table in enumerate(systems.values())
    )
    np.testing.assert_allclose(found.predicted[:, 1], by_hand)
    with pytest.raises(UserError, match="fusion both: weights for arousal, valence are needed"):
        fused_attributes(systems, learnt | {"fits": []})
