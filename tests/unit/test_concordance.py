"""Agreement with the raters: Lin's coefficient as the challenges define it, and its intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from serflow.concordance import concordance, concordance_intervals
from serflow.nets.losses import concordance_loss, squared_error_loss


def ratings(n: int = 400, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference = rng.normal([4.0, 3.5, 5.0], [1.0, 0.5, 2.0], (n, 3))
    return reference, 0.8 * reference + 0.5 + noise * rng.standard_normal((n, 3))


def by_the_book(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation times Lin's bias correction factor."""
    shift = (x.mean() - y.mean()) / np.sqrt(x.std() * y.std())
    ratio = x.std() / y.std()
    return stats.pearsonr(x, y).statistic * 2 / (ratio + 1 / ratio + shift**2)


def test_it_is_the_correlation_times_the_bias_correction():
    reference, prediction = ratings()
    expected = [by_the_book(x, y) for x, y in zip(reference.T, prediction.T, strict=True)]
    assert concordance(reference, prediction) == pytest.approx(expected, abs=1e-12)


def test_variances_are_those_of_a_population():
    """With n - 1 in the variances, three utterances would score .667 instead of .571."""
    assert concordance([[1], [2], [3]], [[2], [3], [4]]) == pytest.approx([4 / 7])


def test_a_constant_guess_scores_nothing_and_a_perfect_one_everything():
    reference, _ = ratings()
    assert concordance(reference, np.full_like(reference, 4.0)) == pytest.approx([0] * 3, abs=1e-12)
    assert concordance(reference, reference) == pytest.approx([1] * 3)
    assert concordance(reference, 2 * reference.mean(0) - reference) == pytest.approx([-1] * 3)
    assert np.isnan(concordance([[2.0], [2.0]], [[2.0], [2.0]])).all()


@given(st.integers(0, 1000), st.floats(-1e6, 1e6), st.floats(0.01, 100))
def test_the_scale_does_not_matter_nor_a_large_offset(seed, offset, factor):
    reference, prediction = ratings(30, seed=seed)
    moved = concordance(offset + factor * reference, offset + factor * prediction)
    assert moved == pytest.approx(concordance(reference, prediction), abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "prediction", "message"),
    [
        ([[1.0], [np.nan]], [[1.0], [2.0]], "reference is missing or infinite in row 1"),
        ([[1.0], [2.0]], [[np.inf], [2.0]], "prediction is missing or infinite in row 0"),
        ([[1.0]], [[1.0, 2.0]], "shape"),
        (np.empty((0, 3)), np.empty((0, 3)), "at least one"),
    ],
)
def test_what_cannot_be_scored_is_named(reference, prediction, message):
    with pytest.raises(ValueError, match=message):
        concordance(reference, prediction)


def test_intervals_are_those_of_resampled_utterances():
    reference, prediction = ratings(200)
    each, mean = concordance_intervals(reference, prediction, seed=0, resamples=2000)
    rng = np.random.default_rng(1)
    rows = rng.integers(200, size=(2000, 200))
    values = np.array([concordance(reference[i], prediction[i]) for i in rows])
    low, high = np.quantile(values, [0.025, 0.975], axis=0)
    assert each.value == pytest.approx(concordance(reference, prediction))
    assert np.stack([each.low, each.high]) == pytest.approx(np.stack([low, high]), abs=0.01)
    assert mean.value == pytest.approx(each.value.mean())
    ends = np.quantile(values.mean(axis=1), [0.025, 0.975])
    assert [mean.low, mean.high] == pytest.approx(ends, abs=0.01)
    assert mean.n == each.n == 200


def test_resampled_speakers_give_wider_intervals_where_speakers_differ():
    reference, prediction = ratings(400)
    speakers = np.repeat(np.arange(8), 50)
    prediction = prediction + np.random.default_rng(2).normal(0, 0.8, 8)[speakers][:, None]
    free, _ = concordance_intervals(reference, prediction, seed=0, resamples=500)
    tied, _ = concordance_intervals(reference, prediction, seed=0, resamples=500, clusters=speakers)
    assert ((tied.high - tied.low) > (free.high - free.low)).all()


def test_the_loss_is_the_negative_metric_of_what_is_rated():
    reference, prediction = ratings(50)
    loss = concordance_loss(torch.tensor(prediction), torch.tensor(reference))
    assert float(loss) == pytest.approx(-concordance(reference, prediction).mean(), abs=1e-5)
    reference[:20, 1] = np.nan
    rated = [
        concordance(reference[20 * (i == 1) :, [i]], prediction[20 * (i == 1) :, [i]])[0]
        for i in range(3)
    ]
    loss = concordance_loss(torch.tensor(prediction), torch.tensor(reference))
    assert float(loss) == pytest.approx(-np.mean(rated), abs=1e-5)


@pytest.mark.parametrize("loss", [concordance_loss, squared_error_loss])
@pytest.mark.parametrize(
    "reference", [[[np.nan], [np.nan]], [[0.5], [np.nan]], [[0.5], [0.5]], [[0.2], [0.9]]]
)
def test_a_batch_without_ratings_or_spread_gives_finite_gradients(loss, reference):
    """One not-a-number gradient ruins the network for good."""
    predicted = torch.full((2, 1), 0.5, requires_grad=True)
    loss(predicted, torch.tensor(reference)).backward()
    assert predicted.grad.isfinite().all()
    assert (predicted.grad[torch.tensor(reference).isnan()] == 0).all()
