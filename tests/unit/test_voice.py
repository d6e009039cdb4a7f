"""The voice detector: no real utterance is lost, no noise gets a text, however they come together."""

from __future__ import annotations

import doctest
from importlib.metadata import distribution

import numpy as np
import pytest
import soundfile
import torch

from serflow.asr import voice
from serflow.asr.voice import CHUNK, CONTEXT, MIN_VOICE, STATE, SileroNetwork, VoiceDetector
from serflow.audio import SAMPLE_RATE
from serflow.packing import quantise

# Of EmoDB's files, those that the detector is least sure of when they are clean, quiet or noisy.
HARD = ("08a01Wc", "08a04Wc", "09a07Wb", "13a05Wc", "16a02Wb", "16a04Wb", "16a07Fb")


def stored(samples):
    """Samples as the store gives them back."""
    return quantise(np.array(samples, np.float32))[0].astype(np.float32) / 32768


def noise(count, slope=0, seed=0):
    """Noise of RMS 1 whose power falls with frequency to the power of `slope`."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    frequencies = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 20)
    samples = np.fft.irfft(spectrum / frequencies ** (slope / 2), count)
    return samples / samples.std()


def noisy(samples, slope):
    return samples + samples.std() / 10**0.5 * noise(len(samples), slope)


QUIET = 10**-1.5
ALTERED = {
    "as recorded": lambda x: x,
    "30 dB down": lambda x: QUIET * x,
    "white noise of 10 dB": lambda x: noisy(x, 0),
    "pink noise of 10 dB, 30 dB down": lambda x: QUIET * noisy(x, 1),
    "30 dB down, offset": lambda x: QUIET * x + 0.05,
}

TIME = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
CLICK = np.where(TIME == 1, 1.0, 0.0)
SOUNDS = {
    "white noise": noise(len(TIME)),
    "pink noise": noise(len(TIME), 1),
    "brown noise": noise(len(TIME), 2),
    "noise at the rhythm of syllables": noise(len(TIME)) * (1 + np.sin(8 * np.pi * TIME)),
    "mains hum": sum(np.sin(100 * np.pi * k * TIME + k * k) / k for k in range(1, 8)),
    "tone": np.sin(2000 * np.pi * TIME),
    "clicks": sum(np.roll(CLICK, k) for k in (-9000, -2000, 0, 7000)),
    "one click": CLICK,
}


@pytest.fixture(scope="module")
def detector():
    return VoiceDetector()


@pytest.fixture(scope="module")
def speech(emodb_folder):
    files = sorted((emodb_folder / "wav").glob("*.wav"))
    files = sorted({*files[::40], *(emodb_folder / "wav" / f"{name}.wav" for name in HARD)})
    return [soundfile.read(file, dtype="float32")[0] for file in files]


@pytest.mark.parametrize("way", ALTERED)
def test_real_speech_is_not_taken_for_silence(detector, speech, way):
    scores = detector.scores([stored(ALTERED[way](samples)) for samples in speech])
    assert min(scores) >= MIN_VOICE


@pytest.mark.parametrize("level", [-20, -40, -55])
def test_noise_hum_and_clicks_are_not_taken_for_speech(detector, level):
    levelled = {name: x / np.sqrt(np.mean(x**2)) for name, x in SOUNDS.items()}
    scores = detector.scores([stored(10 ** (level / 20) * x) for x in levelled.values()])
    assert [n for n, score in zip(SOUNDS, scores, strict=True) if score >= MIN_VOICE] == []


def test_silence_is_not_amplified_into_speech(detector):
    silent = np.zeros(SAMPLE_RATE, np.float32)
    dither = stored(0.6 / 32768 * noise(SAMPLE_RATE))
    assert max(detector.scores([silent, silent + 0.1, dither])) < MIN_VOICE


def test_a_neighbour_in_the_batch_does_not_change_a_score(detector, speech):
    batch = [samples[: 1600 + 7001 * i] for i, samples in enumerate(speech)]
    batch.insert(3, np.zeros(5 * SAMPLE_RATE, np.float32))
    alone = [detector.scores([samples])[0] for samples in batch]
    assert detector.scores(batch) == pytest.approx(alone, abs=1e-5)


def test_an_earlier_batch_does_not_change_a_score(detector, speech):
    before = detector.scores(speech[:3])
    detector.scores([np.zeros(1600, np.float32)] * 3)
    assert detector.scores(speech[:3]) == before


def test_hearing_no_more_than_needed_decides_alike(detector, speech):
    late = [np.concatenate([np.zeros(30_000, np.float32), samples]) for samples in speech[:4]]
    batch = [*speech, *late, *(stored(0.01 * x) for x in SOUNDS.values())]
    whole, part = (np.array(detector.scores(batch, enough=e)) for e in (1.0, MIN_VOICE))
    assert ((whole >= MIN_VOICE) == (part >= MIN_VOICE)).all()
    unvoiced = whole < MIN_VOICE
    assert unvoiced.any()
    assert part[unvoiced] == pytest.approx(whole[unvoiced], abs=1e-5)


def test_the_network_judges_as_the_one_of_the_package(speech):
    """A release may bring other layers or weights under the same names."""
    file = distribution("silero-vad").locate_file("silero_vad/data/silero_vad.jit")
    model = torch.jit.load(str(file)).eval()
    samples = torch.from_numpy(speech[0][: len(speech[0]) // CHUNK * CHUNK])
    state = (torch.zeros(1, 1, STATE), torch.zeros(1, 1, STATE))
    windows = torch.nn.functional.pad(samples, (CONTEXT, 0)).unfold(0, CONTEXT + CHUNK, CHUNK)
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        ours = SileroNetwork()(windows[None], state)[0][0]
        theirs = [model(chunk, SAMPLE_RATE).item() for chunk in samples.split(CHUNK)]
    assert max(theirs) > 0.9
    assert ours.tolist() == pytest.approx(theirs, abs=1e-4)


def test_loading_leaves_threads_and_random_state_alone():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        state = torch.get_rng_state()
        VoiceDetector()
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


def test_an_empty_batch_is_not_an_error(detector):
    assert detector.scores([]) == []


def test_the_example_of_the_docstring_holds():
    assert doctest.testmod(voice).failed == 0
