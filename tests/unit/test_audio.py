"""Audio: every file is decoded right or refused by name, and comes back from the store as it was."""

from __future__ import annotations

import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.containers import AudioFault
from serflow.decoding import decode
from serflow.errors import UserError
from serflow.packing import pack, quantise
from serflow.tables import AUDIO_INDEX, LISTING, SKIPPED, UTTERANCES

ROOT_NAME = "corpus with späces – 音声"


def tone(seconds=0.5, rate=SAMPLE_RATE, hertz=440.0, level=0.5):
    return level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def listing_of(paths, prefix="x"):
    rows = {
        "utterance_id": [f"{prefix}/{Path(p).stem}" for p in paths],
        "corpus": prefix,
        "path": [str(p) for p in paths],
        "label_raw": "anger",
    }
    return pd.DataFrame(rows).reindex(columns=list(LISTING.columns))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / ROOT_NAME
    folder.mkdir()
    return folder


def packed(root, paths, name="a", **options):
    places = root / f"{name}.i16", root / f"{name}.parquet"
    tables = pack(listing_of(paths, name), *places, root=root, **options)
    return *tables, AudioStore([places])


# What goes wrong in real corpora, how it looks on disk, and what the user must read.


def make_missing(path):
    pass


def make_empty(path):
    path.touch()


def make_lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 57\n")


def make_web_page(path):
    path.write_text("<!DOCTYPE html><title>Log in</title>")


def make_noise_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(4000))


def make_headerless(path):
    soundfile.write(path, tone(), SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[:20])


def make_cut_off(path):
    soundfile.write(path, tone(), SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[:8000])


def make_without_samples(path):
    soundfile.write(path, np.zeros(0), SAMPLE_RATE)


def make_nan(path):
    samples = tone().astype(np.float32)
    samples[7] = np.nan
    soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")


def make_infinite(path):
    samples = tone().astype(np.float32)
    samples[7] = np.inf
    soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")


def make_silent(path):
    soundfile.write(path, np.zeros(8000), SAMPLE_RATE)


def make_cancelling(path):
    soundfile.write(path, np.stack([tone(), -tone()], axis=1), SAMPLE_RATE, subtype="FLOAT")


def make_folder(path):
    path.mkdir()


FAULTS = {
    make_missing: "missing",
    make_empty: r"empty \(0 bytes\)",
    make_lfs_pointer: "git-LFS pointer.*git lfs pull",
    make_web_page: "web page, not audio",
    make_noise_bytes: "unreadable or corrupt",
    make_headerless: "unreadable or corrupt",
    make_cut_off: "cut off: its RIFF header promises 16000 bytes of samples, the file holds 7956",
    make_without_samples: "holds no samples",
    make_nan: "NaN or infinite values in 1 of 8000 samples",
    make_infinite: "NaN or infinite values in 1 of 8000 samples",
    make_silent: "digital silence",
    make_cancelling: "its 2 channels cancel to digital silence",
    make_folder: "cannot be opened",
}


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: make.__name__)
def test_a_faulty_file_is_refused_with_its_name_and_its_own_reason(root, make):
    path = root / "fäulty file.wav"
    make(path)
    with pytest.raises(AudioFault, match=FAULTS[make]) as caught:
        decode(path)
    assert str(path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_a_cut_off_compressed_file_is_refused(root, suffix):
    path = root / f"half.{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48_000), SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioFault, match=r"cut off|corrupt"):
        decode(path)


def test_a_wav_written_to_a_pipe_is_not_taken_for_a_cut_off_one(root):
    # ffmpeg ... - > file.wav cannot go back to fill in the lengths.
    path = root / "piped.wav"
    soundfile.write(path, tone(), SAMPLE_RATE)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert len(decode(path)[0]) == 8000


def test_stereo_is_averaged_and_resampled_without_a_change_of_pitch_level_or_length(root):
    path = root / "stereo.flac"
    left = tone(1.0, 48_000, 1000.0, 0.6)
    soundfile.write(path, np.stack([left, left / 3], axis=1), 48_000)
    samples, source = decode(path)
    assert samples.dtype == np.float32
    assert (source.sample_rate, source.channels, source.note) == (48_000, 2, "mean of 2 channels")
    assert len(samples) == SAMPLE_RATE
    middle = slice(1000, -1000)
    assert np.abs(samples - tone(1.0, hertz=1000.0, level=0.4))[middle].max() < 1e-3


def test_one_channel_of_a_file_with_a_speaker_on_each_can_be_taken(root):
    # Calls are recorded so, and the mean of a room's microphones is no room's response.
    path = root / "call.wav"
    left, right = tone(hertz=300.0), tone(hertz=500.0)
    soundfile.write(path, np.stack([left, right], axis=1), SAMPLE_RATE, subtype="FLOAT")
    for channel, wanted in enumerate((left, right)):
        samples, source = decode(path, channel=channel)
        assert np.allclose(samples, wanted, atol=1e-6)
        assert source.note == f"number {channel} of 2 channels"
    with pytest.raises(AudioFault, match="has 2 channels, counted from 0: no 2"):
        decode(path, channel=2)


def test_what_lies_above_the_new_band_does_not_fold_back_into_it(root):
    path = root / "whistle.wav"
    soundfile.write(path, tone(1.0, 48_000, 12_000.0) + tone(1.0, 48_000, 300.0, 0.1), 48_000)
    samples, _ = decode(path)
    assert np.abs(samples - tone(1.0, hertz=300.0, level=0.1))[1000:-1000].max() < 1e-3


def test_an_mp3_named_wav_is_read_and_noted(root):
    soundfile.write(root / "a.mp3", tone(), SAMPLE_RATE)
    (root / "a.mp3").rename(root / "a.wav")
    assert decode(root / "a.wav")[1].note == "MP3 data in a file named .wav"


def test_a_segment_is_the_same_samples_as_the_whole_file_holds_there(root):
    path = root / "dialogue.wav"
    soundfile.write(path, tone(2.0), SAMPLE_RATE)
    whole, _ = decode(path)
    segment, _ = decode(path, 0.5, 1.25)
    assert np.array_equal(segment, whole[8000:20_000])
    assert len(decode(path, 1.5, 2.005)[0]) == 8000, "rounded segment tables may overshoot by 10 ms"
    for start, end in ((1.0, 3.0), (1.0, 1.0), (-1.0, 1.0), (5.0, None)):
        with pytest.raises(AudioFault, match=r"is not inside the file's 2\.00 s"):
            decode(path, start, end)


def test_real_oddities_are_decoded_or_refused(shared_data):
    folder = shared_data / "oddities"
    found = {}
    for path in sorted(folder.iterdir()):
        try:
            found[path.name] = round(len(decode(path)[0]) / SAMPLE_RATE, 2)
        except AudioFault as fault:
            found[path.name] = fault.reason
    assert found == {
        "bus.opus": 0.76,
        "digital_silence.wav": "digital silence",
        "mono_float64.wav": 0.0,
        "mono_int24.wav": 0.0,
        "ms_adpcm.wav": 81.23,
        "stereo_24bit.WAV": 1.11,
    }


def test_all_of_ravdess_is_prepared_its_stereo_files_noted(shared_data, tmp_path):
    root = shared_data / "ravdess"
    files = sorted(root.rglob("*.wav"))
    if not files:
        pytest.skip(f"no RAVDESS in {root}")
    listing = listing_of([file.relative_to(root) for file in files], "ravdess")
    utterances, skipped = pack(listing, tmp_path / "r", tmp_path / "i", root=root, workers=2)
    assert skipped.empty and set(utterances["sample_rate"]) == {48_000}
    stereo = [f"ravdess/{f.stem}" for f in files if soundfile.info(f).channels == 2]
    assert len(stereo) >= 2
    noted = utterances["audio_note"] == "mean of 2 channels"
    assert list(utterances.loc[noted, "utterance_id"]) == stereo


def test_16_bit_samples_come_back_from_the_store_bit_for_bit(root):
    rng = np.random.default_rng(0)
    original = {}
    for name in ("ä b", "c"):
        original[name] = rng.integers(-32768, 32768, 5000).astype(np.int16)
        soundfile.write(root / f"{name}.wav", original[name], SAMPLE_RATE)
    utterances, _, store = packed(root, ["ä b.wav", "c.wav"])
    for name, samples in original.items():
        found = store.samples(f"a/{name}")
        assert found.dtype == np.float32 and np.abs(found).max() <= 1
        assert np.array_equal(found * 32768, samples)
        assert store.seconds(f"a/{name}") == 5000 / SAMPLE_RATE
    assert "a/ä b" in store and "a/d" not in store
    assert list(utterances["duration_s"]) == [5000 / SAMPLE_RATE] * 2


def test_what_is_returned_can_be_changed_without_harm_to_the_store(root):
    soundfile.write(root / "a.wav", tone(), SAMPLE_RATE)
    store = packed(root, ["a.wav"])[2]
    store.samples("a/a")[:] = 0
    assert store.samples("a/a").any()


def test_floats_out_of_range_are_limited_counted_and_noted_never_wrapped(root):
    samples = tone().astype(np.float32)
    samples[:3] = 1.5, -1.5, 1.0
    soundfile.write(root / "hot.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    utterances, _, store = packed(root, ["hot.wav"])
    assert list(store.samples("a/hot")[:3]) == [32767 / 32768, -1.0, 32767 / 32768]
    assert utterances.at[0, "clipped"] == 3
    assert utterances.at[0, "audio_note"] == "3 samples were out of range and limited"
    assert quantise(np.array([-1.0, 32767 / 32768]))[1] == 0


def test_level_duration_rate_and_digest_describe_the_stored_samples(root):
    for name, hertz in (("sine.wav", 400.0), ("copy.flac", 400.0), ("other.wav", 401.0)):
        samples = (tone(1.0, 8000, hertz, 0.5) * 32768).astype(np.int16)
        soundfile.write(root / name, samples, 8000)
    utterances = packed(root, ["sine.wav", "copy.flac", "other.wav"])[0]
    first = utterances.iloc[0]
    assert (first["sample_rate"], first["duration_s"], first["clipped"]) == (8000, 1.0, 0)
    assert first["peak_db"] == pytest.approx(-6.02, abs=0.2)
    assert first["rms_db"] == pytest.approx(-9.03, abs=0.05)
    sine, copy, other = utterances["audio_digest"]
    assert sine == copy != other, "the same recording under two names has one digest"


def test_silence_is_measured_against_the_loudest_frame_and_the_floor_of_16_bits(root):
    rng = np.random.default_rng(0)
    half = np.concatenate([tone(0.5), 1e-3 * rng.standard_normal(8000)])
    soundfile.write(root / "half.wav", half, SAMPLE_RATE)
    soundfile.write(root / "quiet.wav", tone(0.5, level=1e-2), SAMPLE_RATE)
    soundfile.write(root / "click.wav", np.r_[np.zeros(7999), 0.5], SAMPLE_RATE)
    utterances = packed(root, ["half.wav", "quiet.wav", "click.wav"])[0]
    assert list(utterances["silence_ratio"]) == [0.5, 0.0, 24 / 25]


def test_utterances_that_are_text_alone_pass_by_the_store_and_keep_their_place(root):
    # EmoSPeech's transcriptions are free to read; its audio needs the organisers' key.
    for name in ("a", "c"):
        soundfile.write(root / f"{name}.wav", tone(), SAMPLE_RATE)
    make_empty(root / "d.wav")
    listing = listing_of(["a.wav", "b.wav", "c.wav", "d.wav"])
    listing["text"] = "hola"
    listing.loc[1, "path"] = None
    place = (root / "s.i16", root / "s.parquet")
    utterances, skipped = pack(listing, *place, root=root, bad_audio="skip-and-report")
    UTTERANCES.write(utterances, root / "utterances.parquet")
    read = UTTERANCES.read(root / "utterances.parquet")
    assert list(read["utterance_id"]) == ["x/a", "x/b", "x/c"]
    assert list(read["duration_s"].isna()) == [False, True, False]
    assert list(skipped["utterance_id"]) == ["x/d"]
    assert len(AudioStore([place]).samples("x/c")) == 8000
    alone = listing.assign(path=None)
    utterances, skipped = pack(alone, *place, root=root)
    assert len(utterances) == 4 and skipped.empty
    UTTERANCES.write(utterances, root / "utterances.parquet")
    assert "x/a" not in AudioStore([place])


def test_the_tables_and_the_order_do_not_depend_on_the_number_of_workers(root):
    paths = []
    for i in range(70):
        soundfile.write(root / f"{i}.wav", tone(0.05 + 0.001 * i), SAMPLE_RATE)
        paths.append(f"{i}.wav")
    one, _, _ = packed(root, paths, "a", workers=1)
    bytes_of_one = (root / "a.i16").read_bytes()
    four, skipped, _ = packed(root, paths, "a", workers=4)
    pd.testing.assert_frame_equal(one, four)
    assert (root / "a.i16").read_bytes() == bytes_of_one
    assert list(four["path"]) == paths
    UTTERANCES.write(four, root / "utterances.parquet")
    SKIPPED.write(skipped, root / "skipped.parquet")


def test_under_policy_fail_all_faulty_files_are_named_and_nothing_is_written(root):
    soundfile.write(root / "good.wav", tone(), SAMPLE_RATE)
    make_empty(root / "b.wav")
    make_silent(root / "c.wav")
    with pytest.raises(UserError) as caught:
        packed(root, ["good.wav", "b.wav", "c.wav", "nowhere.wav"])
    message = str(caught.value)
    assert "3 of 4 utterances have faulty audio" in message
    for part in ("b.wav: empty", "c.wav: digital silence", "nowhere.wav: missing"):
        assert part in message
    assert "bad_audio: skip-and-report" in message
    assert sorted(p.name for p in root.iterdir()) == ["b.wav", "c.wav", "good.wav"]


def test_a_thousand_faulty_files_do_not_flood_the_log(root):
    with pytest.raises(UserError, match="and 980 more") as caught:
        packed(root, [f"{i}.wav" for i in range(1000)])
    assert str(caught.value).count("missing") == 20


def test_under_policy_skip_faulty_files_are_reported_and_the_rest_is_intact(root):
    for name, level in (("a", 0.5), ("c", 0.25)):
        soundfile.write(root / f"{name}.wav", tone(level=level), SAMPLE_RATE)
    make_cut_off(root / "b.wav")
    utterances, skipped, store = packed(
        root, ["a.wav", "b.wav", "c.wav"], bad_audio="skip-and-report"
    )
    assert list(utterances["utterance_id"]) == ["a/a", "a/c"]
    assert list(skipped["utterance_id"]) == ["a/b"]
    assert "cut off" in skipped.at[0, "reason"]
    assert store.samples("a/c").max() == pytest.approx(0.25, abs=1e-3)
    with pytest.raises(UserError, match="Nothing is left"):
        packed(root, ["b.wav"], bad_audio="skip-and-report")


def test_a_store_goes_through_pickle_to_a_loader_worker_without_its_samples(root):
    soundfile.write(root / "a.wav", tone(10.0), SAMPLE_RATE)
    store = packed(root, ["a.wav"])[2]
    before = store.samples("a/a")
    sent = pickle.dumps(store)
    assert len(sent) < 2000
    assert np.array_equal(pickle.loads(sent).samples("a/a"), before)


def test_an_utterance_in_two_stores_or_in_none_is_an_error(root):
    soundfile.write(root / "a.wav", tone(), SAMPLE_RATE)
    _, _, store = packed(root, ["a.wav"])
    place = (root / "a.i16", root / "a.parquet")
    with pytest.raises(UserError, match="earlier store: a/a"):
        AudioStore([place, place])
    for ask in (store.samples, store.seconds):
        with pytest.raises(UserError, match="'a/z' is not in"):
            ask("a/z")


def test_a_store_that_does_not_fit_its_index_is_refused(root):
    # A half-copied results folder would otherwise give the wrong speech to the right label.
    soundfile.write(root / "a.wav", tone(), SAMPLE_RATE)
    packed(root, ["a.wav"])
    (root / "a.i16").write_bytes((root / "a.i16").read_bytes()[:-2])
    with pytest.raises(UserError, match=r"holds 15998 bytes.*says 16000"):
        AudioStore([(root / "a.i16", root / "a.parquet")])
    (root / "a.i16").unlink()
    with pytest.raises(UserError, match="No such file"):
        AudioStore([(root / "a.i16", root / "a.parquet")])


def test_any_utterance_of_a_real_corpus_is_there_within_100_microseconds(emodb_folder, tmp_path):
    files = sorted((emodb_folder / "wav").iterdir())
    place = (tmp_path / "s", tmp_path / "i")
    pack(listing_of(files, "emodb"), *place, root="/", workers=2)
    store = AudioStore([place])
    ids = np.random.default_rng(0).permutation(AUDIO_INDEX.read(place[1])["utterance_id"])
    taken = []
    for utterance_id in ids:
        begin = time.perf_counter()
        store.samples(utterance_id)
        taken.append(time.perf_counter() - begin)
    assert np.median(taken) < 100e-6
    one = files[100]
    assert np.array_equal(store.samples(f"emodb/{one.stem}"), soundfile.read(one)[0])
