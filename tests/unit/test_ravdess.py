"""RAVDESS: the speech is read whole and right; song, video and damaged copies are refused by name."""

from __future__ import annotations

import pytest

from serflow.corpora import ravdess
from serflow.errors import UserError
from serflow.tables import LISTING


@pytest.fixture
def corpus(tmp_path):
    """The published names in the folders of the unpacked archive, without sound."""
    root = tmp_path / "RAVDESS – speech"
    for stem in ravdess.published():
        file = root / f"Actor_{stem[-2:]}" / f"{stem}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def test_the_whole_corpus_is_24_actors_with_60_utterances_each(corpus, tmp_path):
    listing = ravdess.read(corpus)
    assert len(listing) == 1440
    assert listing["speaker"].value_counts().to_dict() == dict.fromkeys(ravdess.ACTORS, 60)
    assert listing["gender"].value_counts().to_dict() == {"female": 720, "male": 720}
    assert listing["label_raw"].value_counts().to_dict() == {
        "neutral": 96,
        **dict.fromkeys(("calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"), 192),
    }
    assert listing["intensity"].value_counts().to_dict() == {"normal": 768, "strong": 672}
    LISTING.write(listing, tmp_path / "listing.parquet")
    assert LISTING.read(tmp_path / "listing.parquet").equals(listing)


def test_a_row_says_what_the_seven_numbers_of_its_name_say(corpus):
    row = ravdess.read(corpus).set_index("utterance_id").loc["ravdess/03-01-06-01-02-01-12"]
    assert row["path"] == "Actor_12/03-01-06-01-02-01-12.wav"
    assert (row["speaker"], row["gender"], row["language"]) == ("12", "female", "en")
    assert (row["label_raw"], row["intensity"], row["sentence_id"]) == ("fearful", "normal", "02")
    assert row["text"] == "Dogs are sitting by the door."
    assert row[["label", "split", "session", "age"]].isna().all()


def test_one_real_actor_is_a_subset_and_not_the_corpus(shared_data):
    root = shared_data / "ravdess"
    if not root.is_dir():
        pytest.skip(f"needs real RAVDESS recordings, and there is no {root}")
    listing = ravdess.read(root, subset=True)
    assert len(listing) == 60
    assert set(listing["gender"]) == {"male"}
    assert all((root / path).is_file() for path in listing["path"])
    with pytest.raises(UserError, match=r"(?s)60 utterances, published 1440.*actor 02: 0, pub"):
        ravdess.read(root)


def test_files_without_actor_folders_and_a_linked_folder_will_do(corpus, tmp_path):
    flat, linked = tmp_path / "flat", tmp_path / "linked"
    flat.mkdir()
    linked.mkdir()
    for file in corpus.rglob("*.wav"):
        (flat / file.name).symlink_to(file)
    (linked / "speech").symlink_to(corpus, target_is_directory=True)
    assert len(ravdess.read(flat)) == 1440
    assert len(ravdess.read(linked)) == 1440


def test_a_missing_file_is_named_and_subset_accepts_the_rest(corpus):
    (corpus / "Actor_12" / "03-01-06-01-02-01-12.wav").unlink()
    with pytest.raises(UserError) as caught:
        ravdess.read(corpus)
    message = str(caught.value)
    for part in (
        "1439 utterances, published 1440",
        "missing: 03-01-06-01-02-01-12",
        "class fearful: 191, published 192",
        "actor 12: 59, published 60",
        "gender female: 719, published 720",
        "statement 02: 719, published 720",
        "subset: true",
    ):
        assert part in message
    assert len(ravdess.read(corpus, subset=True)) == 1439


def test_the_song_archive_unpacked_into_the_same_folder_is_refused_by_name(corpus):
    (corpus / "Actor_01" / "03-02-03-01-01-01-01.wav").touch()
    with pytest.raises(UserError) as caught:
        ravdess.read(corpus)
    message = str(caught.value)
    assert "03-02-03-01-01-01-01.wav (song, vocal channel 02" in message
    assert "Take foreign files out of the folder" in message


def test_video_and_sound_that_was_cut_from_video_are_refused_by_name(corpus):
    (corpus / "Actor_01" / "01-01-03-01-01-01-01.mp4").touch()
    (corpus / "Actor_01" / "02-01-03-01-01-01-01.mp4").touch()
    (corpus / "Actor_01" / "01-01-03-01-01-01-01.wav").touch()
    with pytest.raises(UserError) as caught:
        ravdess.read(corpus, subset=True)
    message = str(caught.value)
    assert "3 names" in message
    assert "01-01-03-01-01-01-01.wav (video, modality 01" in message
    assert "02-01-03-01-01-01-01.mp4 (video, modality 02" in message


def test_names_outside_the_scheme_are_listed_each_with_its_reason(corpus):
    for stem in (
        "noise",
        "03-01-09-01-01-01-01",
        "03-01-03-03-01-01-01",
        "03-01-03-01-03-01-01",
        "03-01-03-01-01-03-01",
        "03-01-03-01-01-01-25",
        "03-01-01-02-01-01-01",
    ):
        (corpus / f"{stem}.wav").touch()
    with pytest.raises(UserError) as caught:
        ravdess.read(corpus, subset=True)
    message = str(caught.value)
    for part in (
        "7 names",
        "noise.wav (not seven numbers",
        "(no emotion '09')",
        "(no intensity '03')",
        "(no statement '03')",
        "(no repetition '03')",
        "(no actor '25')",
        "03-01-01-02-01-01-01.wav (neutral has no strong intensity)",
    ):
        assert part in message


def test_a_copy_that_nests_the_whole_set_a_second_time_is_refused_with_both_places(corpus):
    for file in list(corpus.rglob("*.wav")):
        copy = corpus / "audio_speech_actors_01-24" / file.relative_to(corpus)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    with pytest.raises(UserError) as caught:
        ravdess.read(corpus)
    message = str(caught.value)
    assert "1440 of 1440 utterances are there more than once" in message
    assert "audio_speech_actors_01-24/Actor_01/03-01-01-01-01-01-01.wav" in message
    assert len(ravdess.read(corpus / "audio_speech_actors_01-24")) == 1440


def test_hidden_files_of_a_macos_archive_are_not_taken_for_speech(corpus):
    (corpus / "Actor_01" / "._03-01-01-01-01-01-01.wav").write_bytes(b"\0")
    assert len(ravdess.read(corpus)) == 1440


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: folder.touch(), "is a file, not a folder"),
        (lambda folder: (folder / "Actor_01").mkdir(parents=True), r"no \*\.wav or \*\.mp4 file"),
    ],
)
def test_a_folder_that_holds_no_corpus_is_answered_with_what_to_configure(tmp_path, make, fault):
    folder = tmp_path / "nö corpus"
    make(folder)
    with pytest.raises(UserError, match=fault) as caught:
        ravdess.read(folder)
    assert "`paths: {ravdess: ...}` in config.yaml" in str(caught.value)
