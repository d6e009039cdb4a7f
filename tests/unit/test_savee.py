"""SAVEE: both layouts are read whole and right, and damaged copies are refused by name."""

from __future__ import annotations

import pytest

from serflow.corpora import savee
from serflow.errors import UserError
from serflow.tables import LISTING


@pytest.fixture
def corpus(tmp_path):
    """The published names as registered users get them, without sound."""
    root = tmp_path / "SAVEE"
    for name in savee.published():
        speaker, stem = name.split("_")
        file = root / "AudioData" / speaker / f"{stem}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (root / "AudioData" / "Info.txt").touch()
    return root


@pytest.fixture
def flat(tmp_path):
    """The published names as copies elsewhere have them."""
    root = tmp_path / "ALL"
    root.mkdir()
    for name in savee.published():
        (root / f"{name}.wav").touch()
    return root


def test_the_whole_corpus_is_four_men_with_15_of_each_emotion_and_30_neutral(corpus, tmp_path):
    listing = savee.read(corpus)
    assert len(listing) == 480
    assert listing["label_raw"].value_counts().to_dict() == {
        "neutral": 120,
        **dict.fromkeys(("anger", "disgust", "fear", "happiness", "sadness", "surprise"), 60),
    }
    assert listing["speaker"].value_counts().to_dict() == dict.fromkeys(savee.SPEAKERS, 120)
    assert set(listing["gender"]) == {"male"}
    LISTING.write(listing, tmp_path / "listing.parquet")
    assert LISTING.read(tmp_path / "listing.parquet").equals(listing)


def test_both_layouts_give_the_same_utterances(corpus, flat):
    folders, prefixes = savee.read(corpus), savee.read(flat)
    assert folders.drop(columns="path").equals(prefixes.drop(columns="path"))
    paths = folders.set_index("utterance_id")["path"]
    assert paths["savee/KL_sa03"] == "AudioData/KL/sa03.wav"
    assert prefixes.set_index("utterance_id")["path"]["savee/KL_sa03"] == "KL_sa03.wav"


def test_sadness_and_surprise_are_not_taken_for_each_other(flat):
    labels = savee.read(flat).set_index("utterance_id")["label_raw"]
    assert (labels["savee/DC_sa01"], labels["savee/DC_su01"]) == ("sadness", "surprise")


def test_sentences_are_left_open_because_no_list_says_which_file_holds_which(flat):
    assert savee.read(flat)[["sentence_id", "text"]].isna().all(axis=None)


def test_one_speakers_folder_is_a_subset(corpus):
    listing = savee.read(corpus / "AudioData" / "JK", subset=True)
    assert len(listing) == 120
    assert listing["utterance_id"][0] == "savee/JK_a01"


def test_a_missing_file_is_named_and_subset_accepts_the_rest(corpus):
    (corpus / "AudioData" / "JE" / "n30.wav").unlink()
    with pytest.raises(UserError) as caught:
        savee.read(corpus)
    message = str(caught.value)
    for part in (
        "479 utterances, published 480",
        "missing: JE_n30",
        "class neutral: 119, published 120",
        "speaker JE: 119, published 120",
        "subset: true",
    ):
        assert part in message
    assert len(savee.read(corpus, subset=True)) == 479


def test_both_layouts_in_one_folder_are_refused_with_both_places(corpus, flat):
    flat.rename(corpus / "ALL")
    with pytest.raises(UserError) as caught:
        savee.read(corpus)
    message = str(caught.value)
    assert "480 of 480 utterances are there more than once" in message
    assert "ALL/DC_a01.wav and AudioData/DC/a01.wav" in message


def test_names_outside_the_scheme_are_listed_each_with_its_reason(corpus):
    for name in ("noise", "XX_a01", "DC_b01", "DC_a16", "DC_n31", "DC_su00"):
        (corpus / f"{name}.wav").touch()
    (corpus / "a01.wav").touch()
    with pytest.raises(UserError) as caught:
        savee.read(corpus, subset=True)
    message = str(caught.value)
    for part in (
        "7 names",
        "noise.wav (not DC_a01",
        "XX_a01.wav (no speaker 'XX')",
        "DC_b01.wav (no emotion 'b')",
        "DC_a16.wav (anger is numbered 01 to 15)",
        "DC_n31.wav (neutral is numbered 01 to 30)",
        "DC_su00.wav (surprise is numbered 01 to 15)",
        "a01.wav (no speaker 'SAVEE')",
    ):
        assert part in message


def test_a_file_that_names_another_speaker_than_its_folder_is_refused(corpus):
    folder = corpus / "AudioData" / "DC"
    (folder / "a01.wav").rename(folder / "KL_a01.wav")
    with pytest.raises(UserError, match=r"KL_a01\.wav \(in the folder of speaker DC\)"):
        savee.read(corpus, subset=True)
    (folder / "KL_a01.wav").rename(folder / "DC_a01.wav")
    assert len(savee.read(corpus)) == 480


@pytest.mark.parametrize("hidden", [".Trash-0/files", ".snapshot/hourly.0/DC"])
def test_what_is_in_the_bin_or_a_snapshot_is_no_second_copy(corpus, hidden):
    (corpus / hidden).mkdir(parents=True)
    (corpus / hidden / "DC_a01.wav").touch()
    assert len(savee.read(corpus)) == 480
    moved = corpus.rename(corpus.with_name(".corpora"))
    assert len(savee.read(moved)) == 480, "the folder that is asked for may be hidden itself"


def test_hidden_files_of_a_macos_archive_are_not_taken_for_speech(corpus):
    (corpus / "AudioData" / "DC" / "._a01.wav").write_bytes(b"\0")
    assert len(savee.read(corpus)) == 480


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: folder.touch(), "is a file, not a folder"),
        (lambda folder: (folder / "AudioData").mkdir(parents=True), r"no \*\.wav file"),
    ],
)
def test_a_folder_that_holds_no_corpus_is_answered_with_what_to_configure(tmp_path, make, fault):
    folder = tmp_path / "nö corpus"
    make(folder)
    with pytest.raises(UserError, match=fault) as caught:
        savee.read(folder)
    assert "`paths: {savee: ...}` in config.yaml" in str(caught.value)
