"""Intervals: as wide as resampling the utterances (or speakers) themselves would make them."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from serflow import intervals, resampling
from serflow.intervals import bootstrap_interval, paired_bootstrap
from serflow.metrics import METRICS, confusion

C = 4


def noisy(reference, accuracy, rng):
    guess = rng.integers(0, C, size=len(reference))
    return np.where(rng.random(len(reference)) < accuracy, reference, guess)


@pytest.fixture(scope="module")
def labels():
    """Skewed reference, and two systems that share some of their errors."""
    rng = np.random.default_rng(7)
    reference = rng.choice(C, size=500, p=[0.55, 0.25, 0.15, 0.05])
    common = noisy(reference, 0.5, rng)
    return reference, noisy(common, 0.75, rng), noisy(common, 0.6, rng)


def resample(n, clusters, rng):
    """Draw the rows of one resample the plain way."""
    if clusters is None:
        return rng.integers(n, size=n)
    speakers = np.unique(clusters)
    drawn = rng.choice(speakers, size=len(speakers))
    return np.concatenate([np.flatnonzero(clusters == speaker) for speaker in drawn])


def test_the_examples_in_the_documentation_run():
    assert doctest.testmod(intervals).failed == 0


@pytest.mark.parametrize("metric", ["macro_f1", "uar", "wa"])
@pytest.mark.parametrize("n_speakers", [None, 25])
def test_counts_are_resampled_as_utterances_would_be(labels, metric, n_speakers):
    reference, a, b = labels
    clusters = None if n_speakers is None else np.arange(len(reference)) % n_speakers
    rng = np.random.default_rng(0)
    plain = []
    for _ in range(3000):
        rows = resample(len(reference), clusters, rng)
        plain.append(METRICS[metric](confusion(reference[rows], np.stack([a, b])[:, rows], C)))
    plain = np.array(plain)
    options = {"seed": 0, "clusters": clusters}
    ours = bootstrap_interval(reference, a, C, metric, **options)
    np.testing.assert_allclose(
        [ours.low, ours.high], np.percentile(plain[:, 0], [2.5, 97.5]), atol=0.006
    )
    paired = paired_bootstrap(reference, a, b, C, metric, **options)
    difference = plain[:, 0] - plain[:, 1]
    np.testing.assert_allclose(
        [paired.low, paired.high], np.percentile(difference, [2.5, 97.5]), atol=0.006
    )


def test_the_value_is_the_metric_on_all_utterances(labels):
    reference, a, b = labels
    speakers = np.arange(500) % 10
    for name, metric in METRICS.items():
        value_a, value_b = (metric(confusion(reference, h, C)) for h in (a, b))
        for clusters in (None, speakers):
            options = {"seed": 1, "resamples": 50, "clusters": clusters}
            single = bootstrap_interval(reference, a, C, name, **options)
            np.testing.assert_array_equal(single.value, value_a)
            assert single.n == 500
            paired = paired_bootstrap(reference, a, b, C, name, **options)
            np.testing.assert_array_equal(paired.difference, value_a - value_b)


def test_accuracy_interval_is_the_binomial_one():
    """An independent yardstick: for accuracy the standard error is known."""
    reference = np.zeros(2000, dtype=int)
    hypothesis = np.repeat([0, 1], [1400, 600])
    interval = bootstrap_interval(reference, hypothesis, 2, "wa", seed=0)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 2000)
    np.testing.assert_allclose([interval.low, interval.high], [0.7 - half, 0.7 + half], atol=0.002)


def test_intervals_hold_the_true_value_95_times_in_100():
    rng = np.random.default_rng(3)
    truth, held = 0.6 + 0.4 / C, 0
    for seed in range(200):
        reference = rng.integers(0, C, size=300)
        hypothesis = noisy(reference, 0.6, rng)
        interval = bootstrap_interval(reference, hypothesis, C, "wa", seed=seed, resamples=500)
        held += interval.low <= truth <= interval.high
    assert 0.90 <= held / 200 <= 0.99


def test_speakers_that_differ_widen_the_interval():
    """Ten speakers, each wholly right or wrong, are ten observations, not a thousand."""
    reference = np.tile(np.arange(C), 250)
    speakers = np.repeat(np.arange(10), 100)
    hypothesis = np.where(speakers % 2 == 0, reference, (reference + 1) % C)
    by_utterance = bootstrap_interval(reference, hypothesis, C, "uar", seed=0)
    by_speaker = bootstrap_interval(reference, hypothesis, C, "uar", seed=0, clusters=speakers)
    assert by_speaker.high - by_speaker.low > 5 * (by_utterance.high - by_utterance.low)


def test_pairing_finds_a_difference_that_separate_intervals_would_hide(labels):
    reference, a, _ = labels
    worse = a.copy()
    right = np.flatnonzero(a == reference)[:12]
    worse[right] = (worse[right] + 1) % C
    gain = paired_bootstrap(reference, a, worse, C, "wa", seed=0)
    first = bootstrap_interval(reference, a, C, "wa", seed=0)
    second = bootstrap_interval(reference, worse, C, "wa", seed=0)
    assert first.low < second.high
    assert 0 < gain.low < gain.difference < gain.high
    assert gain.p < 0.01


def test_swapping_the_systems_flips_the_sign_and_keeps_p(labels):
    reference, a, b = labels
    forth = paired_bootstrap(reference, a, b, C, "macro_f1", seed=0)
    back = paired_bootstrap(reference, b, a, C, "macro_f1", seed=0)
    assert back.difference == -forth.difference
    np.testing.assert_allclose([back.low, back.high], [-forth.high, -forth.low], atol=0.004)
    np.testing.assert_allclose(back.p, forth.p, atol=0.01)


def test_a_system_does_not_differ_from_itself(labels):
    reference, a, _ = labels
    same = paired_bootstrap(reference, a, a, C, "macro_f1", seed=0)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_p_is_below_5_percent_where_the_interval_leaves_out_zero(labels):
    reference, a, b = labels
    for n in range(40, 500, 20):
        gain = paired_bootstrap(reference[:n], a[:n], b[:n], C, "wa", seed=0, resamples=2000)
        if not 0.045 < gain.p < 0.055:
            assert (gain.p < 0.05) == (gain.low > 0 or gain.high < 0)


def test_same_seed_same_interval_whatever_the_order_of_rows(labels):
    """Tables come back from the cluster in another order; the report must not change."""
    reference, a, _ = labels
    speakers = np.array([f"speaker {i % 10}" for i in range(500)])
    shuffled = np.random.default_rng(0).permutation(500)
    for clusters in (None, speakers):
        reordered = None if clusters is None else clusters[shuffled]
        once = bootstrap_interval(reference, a, C, "uar", seed=5, clusters=clusters)
        again = bootstrap_interval(
            reference[shuffled], a[shuffled], C, "uar", seed=5, clusters=reordered
        )
        other = bootstrap_interval(reference, a, C, "uar", seed=6, clusters=clusters)
        assert once == again != other


def test_the_size_of_the_chunks_does_not_change_the_interval(labels, monkeypatch):
    reference, a, b = labels
    for clusters in (None, np.arange(500) % 10):
        options = {"seed": 0, "resamples": 1000, "clusters": clusters}
        whole = paired_bootstrap(reference, a, b, C, "uar", **options)
        with monkeypatch.context() as patch:
            patch.setattr(resampling, "CHUNK_VALUES", 170)
            assert paired_bootstrap(reference, a, b, C, "uar", **options) == whole


def test_classes_are_intervals_of_their_own_and_absent_ones_are_undefined():
    reference = np.array([0] * 80 + [1] * 3)  # class 1 is missing from some resamples, 2 from all
    hypothesis = np.array([0] * 60 + [1] * 22 + [0])
    recall = bootstrap_interval(reference, hypothesis, 3, "recall", seed=0)
    np.testing.assert_allclose(recall.value, [0.75, 2 / 3, np.nan])
    assert (recall.low[:2] < recall.value[:2]).all()
    assert (recall.value[:2] < recall.high[:2]).all()
    assert np.isnan([recall.low[2], recall.high[2]]).all()
    paired = paired_bootstrap(reference, hypothesis, reference, 3, "recall", seed=0)
    assert paired.p[0] < 0.05
    assert np.isnan(paired.p[2])
    cells = bootstrap_interval(reference, hypothesis, 3, "confusion", seed=0)
    assert cells.low.shape == cells.high.shape == (3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "F1"}, "unknown metric 'F1'; known are macro_f1, micro_f1"),
        ({"hypothesis": [0, 1, 1]}, r"hypothesis a has shape \(3,\); expected \(4,\)"),
        ({"reference": [], "hypothesis": []}, "at least 1"),
        ({"hypothesis": [0, 1, 4, 1]}, "hypothesis a holds 4 in row 2"),
        ({"clusters": ["anna"] * 4}, "all utterances are of cluster anna"),
        ({"clusters": ["anna", "bert"]}, r"clusters have shape \(2,\); expected \(4,\)"),
        ({"resamples": 0}, "resamples is 0"),
        ({"level": 95}, "level is 95; expected a share"),
    ],
)
def test_wrong_input_is_named(change, message):
    valid = {"reference": [0, 1, 0, 1], "hypothesis": [0, 1, 1, 1], "metric": "wa"}
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**{**valid, "n_classes": C, "seed": 0, **change})
