"""Fingerprints: a copy is found whatever was done to it, another recording never."""

from __future__ import annotations

import io
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from serflow.acoustics.fingerprints import (
    FINGERPRINTS,
    HOP_S,
    WINDOW_S,
    fingerprint,
    fingerprints_table,
)
from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.leakage.duplicates import LEAST_S, PAIRS, most_errors, near_duplicates
from serflow.packing import pack, quantise
from serflow.tables import LISTING


def stored(samples):
    """Samples as the store gives them back."""
    return quantise(samples)[0].astype(np.float32) / 32768


def table_of(recordings):
    words = [fingerprint(stored(samples)) for samples in recordings.values()]
    return pd.DataFrame({"utterance_id": list(recordings), "words": words})


def speech_like(seed, seconds=3.0):
    """A gliding voice whose harmonics rise and fall some times a second, with a little noise."""
    rng = np.random.default_rng(seed)
    places = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE

    def wander(rate):
        knots = rng.random(int(seconds * rate) + 2)
        return np.interp(places * rate, np.arange(len(knots)), knots)

    phase = 2 * np.pi * np.cumsum(100 + 150 * rng.random() + 60 * wander(3)) / SAMPLE_RATE
    voice = sum(np.sin(k * phase) * wander(8) ** 3 / k for k in range(1, 30))
    voice *= np.interp(places, [0, 0.2, seconds - 0.2, seconds], [0, 1, 1, 0])
    return (0.1 * voice + 1e-3 * rng.standard_normal(len(places))).astype(np.float32)


def through(samples, container, codec, level):
    file = io.BytesIO()
    soundfile.write(
        file, samples, SAMPLE_RATE, format=container, subtype=codec, compression_level=level
    )
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def telephone(samples):
    return soxr.resample(soxr.resample(samples, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)


def noisy(samples, decibel=20):
    noise = np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    return samples + noise * np.sqrt(np.mean(samples**2) / 10 ** (decibel / 10))


# What becomes of a recording between two corpora, or two versions of one, and the shift it brings.
ALTERED = {
    "MP3": (lambda x: through(x, "MP3", "MPEG_LAYER_III", 0.99), 0),
    "Vorbis": (lambda x: through(x, "OGG", "VORBIS", 1.0), 0),
    "Opus": (lambda x: through(x, "OGG", "OPUS", 0.95), 0),
    "telephone": (telephone, 0),
    "gain": (lambda x: x / 4, 0),
    "noise": (noisy, 0),
    "front cut": (lambda x: x[2080:], -0.13),
    "both ends cut": (lambda x: x[4037:-3200], -0.252),
    "silence in front": (lambda x: np.concatenate([np.zeros(16_050, np.float32), x]), 1.003),
    "cut, telephone, MP3": (
        lambda x: through(telephone(x[3003:]), "MP3", "MPEG_LAYER_III", 0.99),
        -0.188,
    ),
}


@pytest.fixture(scope="module")
def emodb_speech(emodb_folder):
    files = sorted((emodb_folder / "wav").glob("*.wav"))
    return {file.stem: soundfile.read(file, dtype="float32")[0] for file in files}


@pytest.fixture(scope="module")
def emodb_table(emodb_speech):
    return table_of(emodb_speech)


@pytest.mark.parametrize("altered", ALTERED)
def test_altered_copies_of_real_speech_are_found_and_nothing_else(
    altered, emodb_speech, emodb_table
):
    alter, shift = ALTERED[altered]
    names = list(emodb_speech)[::20]
    copies = table_of({f"copy of {name}": alter(emodb_speech[name]) for name in names})
    pairs = near_duplicates([emodb_table, copies])
    assert list(pairs["utterance_id_a"]) == names
    assert list(pairs["utterance_id_b"]) == [f"copy of {name}" for name in names]
    assert pairs["offset_s"].between(shift - 0.02, shift + 0.02).all()
    assert pairs["bit_error_rate"].max() < 0.15, "limit 0.2"


def test_ten_people_saying_the_same_ten_sentences_are_no_copies_of_each_other(emodb_table):
    assert len(emodb_table) == 535
    assert near_duplicates([emodb_table]).empty


def test_an_actor_repeating_a_sentence_is_no_copy(shared_data):
    # RAVDESS's second repetitions follow the first to within fractions of a syllable.
    files = sorted(shared_data.joinpath("ravdess").rglob("*.wav"))
    files += sorted(shared_data.joinpath("crema-d").rglob("*.wav"))
    if not files:
        pytest.skip(f"no RAVDESS and no CREMA-D in {shared_data}")
    recordings = {}
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        recordings[str(file)] = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
    assert near_duplicates([table_of(recordings)]).empty


# Not the codecs: at their lowest rates they model human voices, and destroy this one.
@pytest.mark.parametrize(
    "altered", ["telephone", "gain", "noise", "both ends cut", "silence in front"]
)
def test_altered_copies_of_synthetic_speech_are_found_and_nothing_else(altered):
    alter, _ = ALTERED[altered]
    originals = {f"{seed:02d}": speech_like(seed) for seed in range(12)}
    copies = {f"copy of {name}": alter(originals[name]) for name in list(originals)[:4]}
    pairs = near_duplicates([table_of(originals), table_of(copies)])
    found = pairs[["utterance_id_a", "utterance_id_b"]].to_numpy().tolist()
    assert found == [[name, f"copy of {name}"] for name in list(originals)[:4]]


def test_a_clip_is_found_in_the_long_recording_that_it_was_cut_from():
    # Podcast segments whose boundaries overlap share seconds of speech between train and test.
    long = speech_like(1, 60.0)
    pairs = near_duplicates([table_of({"long": long, "clip": long[480_000:528_000]})])
    (a, b, offset, overlap, rate) = pairs.to_numpy().tolist()[0]
    assert (a, b) == ("long", "clip")
    assert offset == pytest.approx(-30.0, abs=0.01) and 2 < overlap <= 3.01 and rate < 0.02


def test_the_same_word_in_two_recordings_is_not_enough():
    # An overlap that short cannot be told from chance among 150,000 utterances.
    assert (most_errors(np.arange(33)) < 0).all()
    assert (np.diff(most_errors(np.arange(1, 500))) >= 0).all()
    one = speech_like(1, 2.0)
    two = np.concatenate([one[8000:18_000], speech_like(2, 2.0)])
    assert near_duplicates([table_of({"one": one, "two": two})]).empty


@pytest.mark.parametrize("decibel", [-30, -40])
def test_a_quiet_clip_is_found_in_a_recording_that_has_something_louder_elsewhere(decibel):
    # Measured against the loudest of the whole recording, the clip's stretch was taken for silence.
    loud, quiet = speech_like(1, 5.0), speech_like(2, 4.0) * 10 ** (decibel / 20)
    pairs = near_duplicates([table_of({"whole": np.concatenate([loud, quiet]), "clip": quiet})])
    assert pairs[["utterance_id_a", "utterance_id_b"]].to_numpy().tolist() == [["whole", "clip"]]
    assert pairs.at[0, "offset_s"] == pytest.approx(-5.0, abs=0.02)


def test_recordings_whose_copies_would_be_missed_are_named_by_why():
    recordings = {"long": speech_like(1, 2.0), "short": speech_like(2, 0.8), "none": np.zeros(99)}
    recordings["quiet"] = 1e-5 * speech_like(3, 2.0)
    recordings["fair"] = speech_like(4, LEAST_S + 0.01)
    pairs = near_duplicates([table_of(recordings)])
    assert pairs.attrs == {"too_short": ["short", "none"], "too_quiet": ["quiet"]}
    assert near_duplicates([]).attrs == {"too_short": [], "too_quiet": []}


@pytest.mark.parametrize("seconds", [0.0, 0.1, WINDOW_S])
def test_shorter_than_one_frame_has_no_words(seconds):
    words = fingerprint(np.ones(int(seconds * SAMPLE_RATE), np.float32))
    assert words.dtype == np.uint32
    assert len(words) <= 1


def test_silence_and_pauses_have_no_words():
    # Pauses of one room sound alike in all its recordings.
    hiss = 1e-5 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert not fingerprint(hiss).any()
    assert not fingerprint(np.zeros(16_000, np.float32)).any()
    speech = fingerprint(np.concatenate([speech_like(0, 2.0), 100 * hiss]))
    assert speech[: int(1.0 / HOP_S)].any() and not speech[-20:].any()


def test_a_long_recording_is_fingerprinted_in_pieces_that_fit_together():
    long = speech_like(3, 70.0)
    whole = fingerprint(long)
    part = fingerprint(long[192 * 4000 :])
    # The filter's first few samples differ.
    assert np.mean(np.bitwise_count(whole[4000:] ^ part)) < 0.05
    assert len(whole) == 4000 + len(part)


def test_the_table_does_not_depend_on_the_workers_and_survives_its_file(tmp_path):
    rows = {
        "utterance_id": ["x/a", "x/b", "x/short"],
        "corpus": "x",
        "path": ["a.wav", "b.wav", "c.wav"],
    }
    for name, samples in zip(
        "abc", (speech_like(0), telephone(speech_like(0)), np.ones(99)), strict=True
    ):
        soundfile.write(tmp_path / f"{name}.wav", 0.5 * samples, SAMPLE_RATE)
    place = (tmp_path / "s.i16", tmp_path / "s.parquet")
    pack(pd.DataFrame(rows).reindex(columns=list(LISTING.columns)), *place, root=tmp_path)
    store = AudioStore([place])
    one = fingerprints_table(store, rows["utterance_id"], workers=1)
    FINGERPRINTS.write(one, tmp_path / "f.parquet")
    read = FINGERPRINTS.read(tmp_path / "f.parquet")
    two = fingerprints_table(store, rows["utterance_id"], workers=2)
    for table in (two, read):
        assert list(table["utterance_id"]) == rows["utterance_id"]
        assert all(np.array_equal(x, y) for x, y in zip(table["words"], one["words"], strict=True))
    assert read["words"][0].dtype == np.uint32
    pairs = near_duplicates([read])
    assert pairs[["utterance_id_a", "utterance_id_b"]].to_numpy().tolist() == [["x/a", "x/b"]]


@pytest.mark.parametrize(
    "tables", [[], [[]], [[[]]], [[[1]]], [[[0] * 99, [0] * 99]], [[[7] * 5, [7] * 5]]]
)
def test_no_words_no_pairs(tables):
    frames = [
        pd.DataFrame(
            {
                "utterance_id": [str(i) for i in range(len(t))],
                "words": [np.array(w, np.uint32) for w in t],
            }
        )
        for t in tables
    ]
    pairs = near_duplicates(frames)
    assert pairs.empty and tuple(pairs.columns) == PAIRS


def test_a_hum_that_all_recordings_have_costs_no_quadratic_time():
    # 3,000 recordings with one common word a second are 10**9 pairs of places.
    rng = np.random.default_rng(0)
    words = rng.integers(1, 2**32, (3000, 500), dtype=np.uint32)
    words[:, ::80] = 12345
    words[2999] = words[0]
    ids = [f"{i:04d}" for i in range(3000)]
    start = time.perf_counter()
    pairs = near_duplicates([pd.DataFrame({"utterance_id": ids, "words": list(words)})])
    assert time.perf_counter() - start < 20
    assert pairs[["utterance_id_a", "utterance_id_b"]].to_numpy().tolist() == [["0000", "2999"]]


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(8)),
    cut=st.integers(0, 250),
    wrong=st.floats(0, 0.08),
    seed=st.integers(0, 99),
)
def test_pairs_depend_on_the_recordings_not_on_their_order(order, cut, wrong, seed):
    rng = np.random.default_rng(seed)
    words = list(rng.integers(1, 2**32, (7, 400), dtype=np.uint32))
    flips = np.packbits(rng.random((400, 32)) < wrong, axis=1).view(np.uint32)[:, 0]
    words.append((words[3] ^ flips)[cut:])
    table = pd.DataFrame({"utterance_id": [f"{i}" for i in range(8)], "words": words})
    pairs = near_duplicates([table.iloc[list(order)]])
    assert len(pairs) == 1
    assert set(pairs.loc[0, ["utterance_id_a", "utterance_id_b"]]) == {"3", "7"}
    sign = 1 if pairs.at[0, "utterance_id_a"] == "3" else -1
    assert pairs.at[0, "offset_s"] == pytest.approx(-sign * cut * HOP_S)
