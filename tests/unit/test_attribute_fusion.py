"""Fusion of attributes: each has the weights that agree best on the rows that may choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from serflow.attribute_fusion import AttributeInterpolation, fuse_attributes
from serflow.attributes import Attributes, Scale
from serflow.concordance import concordance
from serflow.errors import UserError

SCALE = Scale(("arousal", "valence"), 1, 7)


def two_systems(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Speech hears arousal, text reads valence: shape (2, n, 2), and the raters'."""
    rng = np.random.default_rng(seed)
    reference = np.clip(rng.normal(4, 1, (n, 2)), 1, 7)
    noise = np.array([[0.4, 2.0], [4.0, 0.7]])  # system, attribute
    return reference + noise[:, None, :] * rng.standard_normal((2, n, 2)), reference


def test_the_weights_are_those_of_the_best_ccc_on_the_grid():
    stack, reference = two_systems()
    fusion = AttributeInterpolation(step=0.05).fit(stack, reference)
    tried = [np.tensordot(weights, stack, axes=1) for weights in fusion.grid_]
    expected = np.array([concordance(reference, fused) for fused in tried]).T
    assert fusion.objective_ == pytest.approx(expected, abs=1e-12)
    assert fusion.weights_[0, 0] > 0.9, "text says nothing of arousal"
    assert fusion.weights_[1, 1] > 0.6
    fused = fusion.predict(stack)
    assert (concordance(reference, fused) >= expected.max(axis=1) - 1e-12).all()


def test_equal_systems_have_equal_weights():
    _, reference = two_systems()
    fusion = AttributeInterpolation(step=0.25).fit([reference, reference], reference)
    assert fusion.weights_ == pytest.approx(np.full((2, 2), 0.5))


def test_weights_come_back_from_the_file_and_of_several_fits_their_mean():
    stack, reference = two_systems()
    fitted = [
        AttributeInterpolation().fit(stack[:, part], reference[part])
        for part in (slice(150), slice(150, 300))
    ]
    names = ["arousal", "valence"]
    fits = [{"weights": dict(zip(names, one.weights_.tolist(), strict=True))} for one in fitted]
    again = AttributeInterpolation.from_learnt(fits[:1], names)
    np.testing.assert_array_equal(again.predict(stack), fitted[0].predict(stack))
    mean = AttributeInterpolation.from_learnt(fits, names)
    expected = np.mean([one.predict(stack) for one in fitted], axis=0)
    np.testing.assert_allclose(mean.predict(stack), expected)
    swapped = AttributeInterpolation.from_learnt(fits[:1], names[::-1])
    np.testing.assert_array_equal(swapped.weights_, fitted[0].weights_[::-1])
    with pytest.raises(ValueError, match="there is no fit"):
        AttributeInterpolation.from_learnt([], names)
    with pytest.raises(ValueError, match="weights for power are needed; there is "):
        AttributeInterpolation.from_learnt(fits, ["power"])


@pytest.mark.parametrize("bad", ["shape", "missing"])
def test_what_cannot_be_fused_is_refused(bad):
    stack, reference = two_systems()
    if bad == "missing":
        reference[3, 1] = np.nan
    with pytest.raises(ValueError, match=bad if bad == "missing" else "have shape"):
        AttributeInterpolation().fit(stack, reference[: None if bad == "missing" else 9])


SPEAKERS = pd.DataFrame(
    {
        "utterance_id": [f"u{i}" for i in range(180)],
        "corpus": "c",
        "speaker": [f"s{i // 20}" for i in range(180)],
    }
)


def tables(folds: int = 3, dev: bool = False) -> dict[str, Attributes]:
    stack, reference = two_systems(60 * folds)
    roles = np.where(np.arange(60 * folds) % 2, "dev", "test") if dev else "test"
    rows = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(60 * folds)],
            "system": "x",
            "fold": np.repeat([str(k) for k in range(folds)], 60),
            "role": roles,
        }
    )
    predicted = np.clip(stack, 1, 7)
    return {
        name: Attributes(rows, predicted[i], reference, SCALE, 1, name)
        for i, name in enumerate(("speech", "text"))
    }


@pytest.mark.parametrize("fit_on", ["dev", "cross_fit"])
def test_no_row_chooses_the_weights_that_it_is_scored_with(fit_on):
    """Ratings of a fold's test rows dealt out anew change no prediction of that fold."""
    systems = tables(dev=fit_on == "dev")
    fused, fits = fuse_attributes(systems, "both", fit_on, 0.05, SPEAKERS)
    rows = next(iter(systems.values())).rows
    scored = ((rows["fold"] == "1") & (rows["role"] == "test")).to_numpy()
    wrong = next(iter(systems.values())).reference.copy()
    wrong[scored] = wrong[scored][::-1]
    dealt = {name: replace(table, reference=wrong) for name, table in systems.items()}
    again, other_fits = fuse_attributes(dealt, "both", fit_on, 0.05, SPEAKERS)
    one = ((fused.rows["fold"] == "1") & (fused.rows["role"] == "test")).to_numpy()
    np.testing.assert_array_equal(fused.predicted[one], again.predicted[one])
    assert len(fits) == 3
    if fit_on == "dev":
        assert fits == other_fits
        assert set(fused.rows["role"]) == {"dev", "test"}
    else:
        assert set(fused.rows["role"]) == {"test"}
    fused.check("fused")


def test_rows_join_by_utterance_and_those_without_ratings_fit_nothing():
    systems = tables()
    expected, fits = fuse_attributes(systems, "both", "cross_fit", 0.05, SPEAKERS)
    order = np.random.default_rng(1).permutation(180)
    text = systems["text"]
    systems["text"] = replace(
        text, rows=text.rows.iloc[order].reset_index(drop=True), predicted=text.predicted[order]
    )
    shuffled, _ = fuse_attributes(systems, "both", "cross_fit", 0.05, SPEAKERS)
    np.testing.assert_array_equal(shuffled.predicted, expected.predicted)
    reference = systems["speech"].reference.copy()
    reference[:10] = np.nan
    systems["speech"] = replace(systems["speech"], reference=reference)
    _, fewer = fuse_attributes(systems, "both", "cross_fit", 0.05, SPEAKERS)
    assert [fit["n"] for fit in fits] == [120, 120, 120]
    assert [fit["n"] for fit in fewer] == [120, 110, 110]
    with pytest.raises(UserError, match="do not cover the same utterances"):
        cut = replace(text, rows=text.rows[:-1], predicted=text.predicted[:-1])
        fuse_attributes(systems | {"text": cut}, "both", "cross_fit", 0.05, SPEAKERS)
    with pytest.raises(UserError, match="other scales"):
        other = replace(text, scale=Scale(SCALE.names, 0, 1))
        fuse_attributes(systems | {"text": other}, "both", "cross_fit", 0.05, SPEAKERS)
