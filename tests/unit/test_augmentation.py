"""Augmented speech is what its settings say, the same again, and never what is scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import tiny_models
from serflow import augmentation
from serflow.audio import AudioStore
from serflow.augmentation import active_power
from serflow.augmenter import Augmenter
from serflow.batching import Batches, Draw
from serflow.config.base import validated
from serflow.config.families.augmentation import AugmentationSettings
from serflow.corpora import gates
from serflow.errors import UserError
from serflow.packing import pack
from serflow.sounds import Sounds
from serflow.systems.interface import build
from serflow.systems.speech_inputs import Spans
from serflow.targets import Targets
from serflow.training.trainer import TrainingExamples
from toy_examples import context, noises_and_rirs, tones

RATE = 16_000
EVERYTHING = {
    "speed": {},
    "time_stretch": {},
    "pitch_shift": {},
    "rirs": {},
    "noises": {},
    "white_noise": {},
}


def tone(hertz: float = 440, seconds: float = 2.0, level: float = 0.3) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def speech(seed: int = 0, pause: bool = True) -> np.ndarray:
    """Three seconds of noisy syllables, with a pause in the middle."""
    rng = np.random.default_rng(seed)
    wave = 0.2 * rng.standard_normal(3 * RATE) * (1 + np.sin(np.arange(3 * RATE) / 800))
    if pause:
        wave[RATE : 2 * RATE] = 0
    return wave.astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    """The strongest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 10 * RATE))
    return spectrum.argmax() / 10


def decibels(ratio: float) -> float:
    return 10 * np.log10(ratio)


def power(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).mean())


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 30.0])
def test_noise_is_as_far_below_the_speech_as_asked_whatever_the_pauses_of_both(snr_db):
    """Measured over pauses too, an utterance that is half silence got 3 dB more noise."""
    for noise in (
        speech(1, pause=False),
        np.pad(speech(2)[:4000], (9000, 3 * RATE - 13_000)),  # a click in silence
        np.float32(0.02) * speech(3),
    ):
        mixed = augmentation.mix(speech(), noise, snr_db)
        added = mixed - speech()
        found = decibels(active_power(speech()) / active_power(added))
        assert found == pytest.approx(snr_db, abs=0.1)
        assert mixed.dtype == np.float32
    assert active_power(speech()) == pytest.approx(active_power(speech(pause=False)), rel=0.1)


@pytest.mark.parametrize("m", [1, 700, 16_000, 16_001, 90_000])
@pytest.mark.parametrize("repeat", [True, False])
def test_a_noise_of_any_length_fits_and_a_point_noise_sounds_once(m, repeat):
    noise = np.arange(1, m + 1, dtype=np.float32)
    starts = set()
    for where in (0.0, 0.4, 0.999999):
        placed = augmentation.place(noise, RATE, where, repeat)
        assert len(placed) == RATE
        assert placed.dtype == np.float32
        sounding = placed[placed > 0]
        assert len(sounding) == (RATE if repeat else min(m, RATE))
        if not repeat:
            assert (np.diff(sounding) == 1).all()
        starts.add((placed[0], placed.argmax()))
    assert len(starts) == {1: 1 if repeat else 3, 16_000: 1, 16_001: 2}.get(m, 3)


def test_reverberation_keeps_onset_and_level_however_late_the_direct_sound_is():
    """Untrimmed responses begin with the way of the sound: labels and frames drifted apart."""
    dry = np.zeros(2 * RATE, np.float32)
    dry[8000:20_000] = tone()[:12_000]
    rng = np.random.default_rng(0)
    tail = 0.2 * rng.standard_normal(6000) * np.exp(-np.arange(6000) / 1500)
    for delay in (0, 37, 1600):
        rir = np.concatenate([np.zeros(delay), [0.8], tail]).astype(np.float32) * 0.3
        wet = augmentation.reverberate(dry, rir)
        assert len(wet) == len(dry)
        assert wet.dtype == np.float32
        onset = int(np.argmax(np.abs(wet) > 0.05))
        assert abs(onset - 8000) <= RATE // 1000
        assert decibels(power(wet) / power(dry)) == pytest.approx(0, abs=0.01)
        assert power(wet[21_000:24_000]) > 1e-6, "the room rings on"


def test_silence_changes_nothing_and_makes_no_nan():
    """CREMA-D has a silent recording, and a cut of a noise may be silent."""
    silent, loud = np.zeros(5000, np.float32), speech()[:5000]
    assert augmentation.mix(loud, silent, 10) is loud
    assert augmentation.mix(silent, loud, 10) is silent
    assert augmentation.reverberate(loud, np.zeros(100, np.float32)) is loud
    assert augmentation.reverberate(silent, loud) is silent
    for changed in (
        augmentation.change_speed(silent, 0.9),
        augmentation.stretch(silent, 1.1),
        augmentation.shift_pitch(silent, 2),
        augmentation.limit(silent),
    ):
        assert not changed.any()
        assert changed.dtype == np.float32


@pytest.mark.parametrize("n", [1, 40, 500, 1023, 16_000])
def test_every_length_is_the_one_that_batches_were_made_by(n):
    samples = tone()[:n]
    for factor in (0.9, 0.95, 1.0, 1.1):
        expected = augmentation.changed_length(n, factor)
        assert len(augmentation.change_speed(samples, factor)) == expected
        assert len(augmentation.stretch(samples, factor)) == expected
    assert len(augmentation.shift_pitch(samples, -1.5)) == n


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_tempo_and_pitch_and_the_vocoder_one_of_them(factor):
    fast = augmentation.change_speed(tone(), factor)
    assert len(fast) == round(2 * RATE / factor)
    assert pitch(fast) == pytest.approx(440 * factor, rel=2e-3)
    stretched = augmentation.stretch(tone(), factor)
    assert len(stretched) == round(2 * RATE / factor)
    assert pitch(stretched) == pytest.approx(440, rel=2e-3)
    semitones = 12 * np.log2(factor)
    shifted = augmentation.shift_pitch(tone(), semitones)
    assert len(shifted) == 2 * RATE
    assert pitch(shifted) == pytest.approx(440 * factor, rel=2e-3)
    for changed in (fast, stretched, shifted):
        assert decibels(power(changed) / power(tone())) == pytest.approx(0, abs=1)
        assert changed.dtype == np.float32


def test_too_loud_a_mixture_is_turned_down_as_a_whole():
    loud = 3 * speech()
    assert np.abs(loud).max() > 1
    limited = augmentation.limit(loud)
    assert np.abs(limited).max() == pytest.approx(1)
    assert np.allclose(limited * np.abs(loud).max(), loud, atol=1e-6), "nothing is cut off"
    assert augmentation.limit(tone()) is not None
    assert (augmentation.limit(tone()) == tone()).all()


# Drawing.


def augmenter(folder: Path, settings: dict = EVERYTHING, seed: int = 1) -> Augmenter:
    chosen = AugmentationSettings.model_validate(settings)
    return Augmenter(chosen, noises_and_rirs(folder), seed)


def test_an_example_depends_on_seed_epoch_position_and_batch_and_on_nothing_else(tmp_path):
    one, again = augmenter(tmp_path / "a"), augmenter(tmp_path / "b")
    wave = speech()
    draws = [Draw(epoch, i, 0, batch=i // 4) for epoch in range(2) for i in range(12)]
    first = [one(wave, draw).tobytes() for draw in draws]
    np.random.seed(0)  # noqa: NPY002
    assert [again(wave, draw).tobytes() for draw in reversed(draws)] == first[::-1]
    assert len(set(first)) > 20, "epochs and positions differ"
    other = augmenter(tmp_path / "c", seed=2)
    assert [other(wave, draw).tobytes() for draw in draws] != first
    assert (wave == speech()).all(), "the recording itself is left alone"


def test_one_kind_draws_the_same_with_and_without_the_others(tmp_path):
    """Two systems that differ in the rooms must not differ in the noises as well."""
    noises = augmenter(tmp_path / "a", {"noises": {}})
    rirs = {"rirs": {"probability": 0}, "white_noise": {"probability": 0}}
    both = augmenter(tmp_path / "b", {"noises": {}} | rirs)
    for i in range(20):
        draw = Draw(0, i, i)
        assert (noises(speech(), draw) == both(speech(), draw)).all()


def test_as_many_examples_are_changed_as_the_probability_says(tmp_path):
    for kind in ("noises", "rirs", "white_noise", "pitch_shift"):
        for share in (0.0, 0.3, 1.0):
            chosen = {kind: {"probability": share}}
            mine = augmenter(tmp_path / f"{kind}{share}", chosen)
            wave = tone(seconds=0.1)
            changed = [not np.array_equal(mine(wave, Draw(0, i, i)), wave) for i in range(200)]
            assert np.mean(changed) == pytest.approx(share, abs=0.1)
            assert mine.facts(200, 8, 1)[kind] == sum(changed)


def test_half_of_the_batches_are_perturbed_and_all_of_a_batch_alike(tmp_path):
    mine = augmenter(tmp_path, {"speed": {}})
    labels = np.arange(203) % 4
    n = 10_000
    batches = Batches(labels, lambda draws: np.full(len(draws), float(n)), 8, seed=1)
    seen = []
    for epoch in range(4):
        batches.set_epoch(epoch)
        for batch in batches:
            (length,) = {mine.length(n, draw) for draw in batch}
            seen.append(length)
            assert len(mine(tone()[:n], batch[0])) == length
        perturbed = sum(length != n for length in seen[-len(batches) :])
        assert perturbed in (len(batches) // 2, -(-len(batches) // 2))
    assert set(seen) == {n, round(n / 0.9), round(n / 1.1)}
    facts = mine.facts(203, 8, 4)
    assert facts["batches"] == len(seen) == 4 * len(batches)
    assert facts["speed_batches"] == sum(length != n for length in seen)
    every = augmenter(tmp_path / "all", {"speed": {"probability": 1.0}})
    assert all(every.length(n, Draw(0, 0, 0, batch)) != n for batch in range(50))


def test_batches_are_of_like_length_after_the_tempo_has_changed(tmp_path):
    """Lengths that batches are made by and lengths that are padded must be the same numbers."""
    train = tones(tmp_path / "t", 40, seed=1)
    spans = [(name, 0, len(train.audio.samples(name))) for name in train.utterance_ids]
    for chosen in (
        {"time_stretch": {}},
        {"speed": {"per": "utterance"}, "time_stretch": {"rates": [0.8, 0.9]}},
        {"speed": {}},
    ):
        mine = augmenter(tmp_path / json.dumps(chosen)[2:7], chosen)
        inputs = Spans(train.audio, spans, FrontEndStub(), mine)
        for batch in Batches(train.labels, inputs.lengths, 8, seed=1):
            expected = inputs.lengths(batch)
            assert [len(inputs.item(draw)) for draw in batch] == expected.tolist()
            assert expected.max() / expected.min() < 1.6


def test_loader_workers_and_their_number_change_nothing(tmp_path):
    """Augmentation from a global generator repeats in each worker, and differs from run to run."""
    train = tones(tmp_path / "t", 24, seed=1)
    spans = [(name, 0, len(train.audio.samples(name))) for name in train.utterance_ids]
    front_end = FrontEndStub()
    inputs = Spans(train.audio, spans, front_end, augmenter(tmp_path))
    assert inputs.varies, "what varies is never kept"
    found = []
    for workers in (0, 1, 2):
        batches = Batches(train.labels, inputs.lengths, 4, seed=1)
        batches.set_epoch(3)
        examples = TrainingExamples(inputs, Targets(train.labels, 3, np.empty((24, 0))))
        loader = DataLoader(
            examples, batch_sampler=batches, collate_fn=examples.collate, num_workers=workers
        )
        found.append([batch["inputs"].numpy().tobytes() for batch in loader])
    assert found[0] == found[1] == found[2]


class FrontEndStub:
    costly = True

    def __call__(self, samples: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(samples)


# In training.


def settings(model: str, **changes) -> dict:
    chosen = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2}
    head = {"bottleneck": 8, "hidden": 16}
    return {"model": model, "adaptation": "full", "head": head, "training": chosen} | changes


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_models.w2v_bert(tmp_path_factory.mktemp("m") / "w2v-bert"))


def test_training_rows_are_augmented_and_nothing_that_is_scored(model, tmp_path, monkeypatch):
    touched = []
    plain = Augmenter.__call__
    monkeypatch.setattr(
        Augmenter,
        "__call__",
        lambda self, samples, draw: touched.append(len(samples)) or plain(self, samples, draw),
    )
    train, dev = tones(tmp_path / "t", 24, seed=1), tones(tmp_path / "d", 12, seed=2)
    where = context(tmp_path, sounds=noises_and_rirs(tmp_path))
    chosen = settings(model, augmentation=EVERYTHING)
    chosen["training"] |= {"select": "best"}
    system = build("speech_classifier", chosen, where).fit(train, dev)
    assert len(touched) == 2 * 24, "an example an epoch; dev rows chose it as they are"
    chunks = system._chunks(dev)[0]
    assert [chunks.span(Draw(0, i, i)) for i in range(12)] == [
        (name, 0, len(dev.audio.samples(name))) for name in dev.utterance_ids
    ]
    system.predict(dev.without_labels())
    assert len(touched) == 2 * 24
    facts = system.facts_["augmentation"]
    assert facts["examples"] == 48
    assert facts["batches"] == 6
    assert facts["speed_batches"] == 3
    assert facts["noise_pool"] == facts["rir_pool"] == 5
    assert 0 < facts["noises"] < 48
    assert system.train_prior_ == pytest.approx([1 / 3] * 3)
    json.dumps(system.facts_)


def test_other_noises_make_another_run_and_no_checkpoint_of_the_first_is_resumed(model, tmp_path):
    train = tones(tmp_path / "t", 12, seed=1)
    chosen = settings(model, augmentation={"noises": {}})
    for seed, resumed in ((0, None), (0, 4), (1, None)):
        sounds = noises_and_rirs(tmp_path / "s", seed)
        if seed:
            rows = sounds["musan"]._rows
            sounds["musan"]._rows = rows.assign(audio_digest=rows["audio_digest"] + "'")
        system = build("speech_classifier", chosen, context(tmp_path, sounds=sounds)).fit(train)
        assert system.facts_["resumed_at_step"] == resumed


def test_training_on_whole_utterances_stays_within_max_seconds_when_slowed(model, tmp_path):
    train = tones(tmp_path / "t", 24, seed=1, seconds=(0.8, 0.9))
    chosen = settings(
        model, max_seconds=0.9, augmentation={"speed": {"factors": [0.9]}, "time_stretch": {}}
    )
    system = build("speech_classifier", chosen, context(tmp_path))
    system._build()
    known = system.context
    system.augmenter_ = Augmenter(system.settings.augmentation, known.sounds, known.seed)
    _, inputs = system._trained_on(train, system.settings.phases[0])
    draws = [Draw(0, i, i, batch) for i in range(24) for batch in range(2)]
    assert 14_000 < inputs.lengths(draws).max() <= 14_400


def test_a_kind_that_the_corpus_lacks_is_named_with_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"'musan' has no sounds of kind nose; it has music, noise"):
        augmenter(tmp_path, {"noises": {"categories": ["nose"]}})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "augmentation names none of speed, time_stretch"),
        ({"noises": {"snr_db": [15, 0]}}, r"expected the lower end first, not \[15.0, 0.0\]"),
        ({"noises": {"snr": [0, 15]}}, "did you mean 'snr_db'"),
        ({"speed": {"factors": [9]}}, "less than or equal to 2"),
        ({"white_noise": {"snr_db": [float("nan"), 1]}}, "finite"),
        ({"rirs": {"probability": 50}}, "less than or equal to 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(block, message):
    with pytest.raises(UserError, match=message):
        validated(AugmentationSettings, block, "study")


# Real noises, rooms and voices.


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory) -> dict[str, Sounds]:
    """Recorded noises (ESC-50) and measured room responses, packed as the workflow does."""
    found = {}
    for corpus, folder in (("noise", "noise"), ("rir", "rir")):
        files = sorted((shared_data / folder).glob("*.*"))
        if not files:
            pytest.skip(f"needs real sounds, and there are none in {shared_data / folder}")
        listing = gates.listing(
            corpus,
            [
                {"utterance_id": file.stem, "path": file.name, "label_raw": corpus, "channel": 0}
                for file in files
            ],
        )
        base = tmp_path_factory.mktemp(corpus)
        store = base / "audio.i16", base / "audio.parquet"
        utterances, _ = pack(listing, *store, root=shared_data / folder)
        found[corpus] = Sounds(corpus, AudioStore([store]), utterances)
    return found


@pytest.fixture(scope="module")
def voice(emodb_folder) -> np.ndarray:
    import soundfile

    return soundfile.read(emodb_folder / "wav" / "03a01Fa.wav", dtype="float32")[0]


def test_real_noises_reach_their_level_wherever_they_are_cut(real, voice):
    for name in real["noise"].names(["noise"]):
        for where in (0.0, 0.5):
            for repeat in (True, False):
                noise = augmentation.place(real["noise"].samples(name), len(voice), where, repeat)
                mixed = augmentation.mix(voice, noise, 5.0)
                if active_power(noise) == 0:
                    assert mixed is voice
                    continue
                snr_db = decibels(active_power(voice) / active_power(mixed - voice))
                assert snr_db == pytest.approx(5, abs=0.1), name


def test_measured_rooms_keep_onset_and_level_of_a_real_voice(real, voice):
    click = np.zeros(RATE, np.float32)
    click[5000] = 0.5
    for name in real["rir"].names(["rir"]):
        rir = real["rir"].samples(name)
        wet = augmentation.reverberate(voice, rir)
        assert decibels(power(wet) / power(voice)) == pytest.approx(0, abs=0.01)
        assert np.isfinite(wet).all()
        answer = np.abs(augmentation.reverberate(click, rir))
        onset = int(np.argmax(answer > 0.1 * answer.max()))  # ISO 3382: 20 dB below the largest
        assert abs(onset - 5000) <= RATE // 1000, name


def test_everything_at_once_on_a_real_voice_is_finite_and_within_full_scale(real, voice):
    chosen = {
        **EVERYTHING,
        "noises": {"corpus": "noise", "probability": 1.0},
        "rirs": {"corpus": "rir", "categories": ["rir"], "probability": 1.0},
    }
    mine = Augmenter(AugmentationSettings.model_validate(chosen), real, 1)
    for i in range(60):
        draw = Draw(0, i, 0, batch=i)
        changed = mine(voice, draw)
        assert len(changed) == mine.length(len(voice), draw)
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert np.abs(changed).max() <= 1


def test_augmented_training_still_learns(model, tmp_path):
    train, test = tones(tmp_path / "t", 60, seed=1), tones(tmp_path / "e", 30, seed=2)
    where = context(tmp_path, sounds=noises_and_rirs(tmp_path))
    block = {"speed": {}, "rirs": {}, "noises": {}, "white_noise": {}}
    chosen = settings(model, augmentation=block)
    chosen["training"] |= {"epochs": 8}
    system = build("speech_classifier", chosen, where).fit(train)
    scores = system.predict(replace(test, labels=None)).log_proba
    assert (scores.argmax(axis=1) == test.labels).mean() > 0.6
