"""Canary hears NeMo's own features, computed in less time."""

from __future__ import annotations

import copy

import pytest
import torch

from serflow.asr.canary import quiet_nemo
from serflow.asr.features import quicken

quiet_nemo()

from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures  # noqa: E402

torch.set_num_threads(1)

# Those of canary-1b's configuration.
RELEASED = {
    "sample_rate": 16_000,
    "n_window_size": 400,
    "n_window_stride": 160,
    "n_fft": 512,
    "nfilt": 128,
    "normalize": "per_feature",
    "dither": 0.0,
    "pad_to": 0,
}


def heard(featurizer: FilterbankFeatures) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of three recordings of noise, one of them cut short and one empty."""
    torch.manual_seed(0)
    signal = torch.randn(3, 24_000) * torch.linspace(0.001, 0.3, 24_000)
    return featurizer(signal, torch.tensor([24_000, 9_001, 0]))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"mag_power": 1.0},
        {"exact_pad": True},
        {"preemph": None},
        {"normalize": None, "pad_value": -3.0},
        {"log_zero_guard_type": "clamp", "log_zero_guard_value": "eps"},
    ],
    ids=str,
)
def test_they_are_those_of_nemo(changed):
    theirs = FilterbankFeatures(**RELEASED | changed).eval()
    ours = copy.deepcopy(theirs)
    quicken(ours)
    assert ours.forward is not theirs.forward
    features, frames = heard(ours)
    expected, lengths = heard(theirs)
    assert torch.equal(frames, lengths)
    assert torch.allclose(features, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("changed", [{"log": False}, {"frame_splicing": 3}], ids=str)
def test_what_is_unusual_is_left_to_nemo(changed):
    featurizer = FilterbankFeatures(**RELEASED | changed).eval()
    before = featurizer.forward
    quicken(featurizer)
    assert featurizer.forward is before
