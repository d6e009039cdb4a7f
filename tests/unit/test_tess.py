"""TESS: both layouts are read whole and right, and doubled or damaged copies are refused by name."""

from __future__ import annotations

import shutil

import pytest

from serflow.corpora import tess
from serflow.errors import UserError
from serflow.tables import LISTING

# Two distributions name their folders differently, even within one of them.
FOLDERS = {
    "OAF ps": "OAF_Pleasant_surprise",
    "YAF ps": "YAF_pleasant_surprised",
    "OAF sad": "OAF_Sad",
}


@pytest.fixture
def corpus(tmp_path):
    """The published names in the folders of a real distribution, without sound."""
    root = tmp_path / "TESS Toronto emotional speech set data"
    for name in tess.published():
        speaker, _, emotion = name.split("_")
        folder = root / FOLDERS.get(f"{speaker} {emotion}", f"{speaker}_{emotion}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.wav").touch()
    neutral = root / "OAF_neutral"
    (neutral / "OAF_bite_neutral.wav").rename(neutral / "OA_bite_neutral.wav")
    return root


def test_the_whole_corpus_is_two_speakers_by_200_words_by_seven_emotions(corpus, tmp_path):
    listing = tess.read(corpus)
    assert len(listing) == 2800
    assert listing["sentence_id"].nunique() == 200
    assert listing["label_raw"].value_counts().to_dict() == dict.fromkeys(
        ("angry", "disgust", "fear", "happy", "neutral", "pleasant_surprise", "sad"), 400
    )
    assert (listing.groupby(["speaker", "label_raw"]).size() == 200).all()
    assert listing.groupby("speaker")["age"].first().to_dict() == {"OAF": 64, "YAF": 26}
    assert set(listing["gender"]) == {"female"}
    LISTING.write(listing, tmp_path / "listing.parquet")
    assert LISTING.read(tmp_path / "listing.parquet").equals(listing)


def test_a_row_says_what_its_file_name_says(corpus):
    row = tess.read(corpus).set_index("utterance_id").loc["tess/YAF_goose_ps"]
    assert row["path"] == "YAF_pleasant_surprised/YAF_goose_ps.wav"
    assert (row["speaker"], row["label_raw"]) == ("YAF", "pleasant_surprise")
    assert (row["sentence_id"], row["text"]) == ("goose", "Say the word goose.")


def test_the_file_published_under_a_wrong_speaker_is_the_older_actress(corpus):
    row = tess.read(corpus).set_index("utterance_id").loc["tess/OAF_bite_neutral"]
    assert row["path"] == "OAF_neutral/OA_bite_neutral.wav"
    assert row["speaker"] == "OAF"


def test_only_the_one_known_misnaming_is_forgiven(corpus):
    (corpus / "OAF_sad" / "OA_boat_sad.wav").parent.mkdir()
    (corpus / "OAF_sad" / "OA_boat_sad.wav").touch()
    with pytest.raises(UserError, match=r"OA_boat_sad\.wav \(no speaker 'OA'\)"):
        tess.read(corpus, subset=True)


def test_flat_files_and_names_in_other_case_are_the_same_utterances(corpus, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in corpus.rglob("*.wav"):
        (flat / (file.name.lower() if "bite" in file.name else file.name.upper())).symlink_to(file)
    assert set(tess.read(flat)["utterance_id"]) == set(tess.read(corpus)["utterance_id"])


def test_the_copy_at_kaggle_which_holds_the_set_twice_is_refused_with_both_places(corpus):
    shutil.copytree(corpus, corpus.parent / "nested")
    shutil.move(corpus.parent / "nested", corpus / corpus.name)
    with pytest.raises(UserError) as caught:
        tess.read(corpus)
    message = str(caught.value)
    assert "2800 of 2800 utterances are there more than once" in message
    assert f"OAF_back_ps.wav and {corpus.name}/OAF_Pleasant_surprise/OAF_back_ps.wav" in message
    assert "`paths: {tess: ...}` in config.yaml to the folder of one copy" in message
    assert len(tess.read(corpus / corpus.name)) == 2800


def test_a_missing_file_is_named_with_its_cell_and_subset_accepts_the_rest(corpus):
    (corpus / "YAF_fear" / "YAF_neat_fear.wav").unlink()
    with pytest.raises(UserError) as caught:
        tess.read(corpus)
    message = str(caught.value)
    for part in (
        "2799 utterances, published 2800",
        "missing: YAF_neat_fear",
        "class fear: 399, published 400",
        "speaker and class YAF fear: 199, published 200",
    ):
        assert part in message
    assert len(tess.read(corpus, subset=True)) == 2799


def test_names_outside_the_scheme_are_listed_each_with_its_reason(corpus):
    for name in ("noise", "OAF_horse_sad", "OAF_back_bored"):
        (corpus / f"{name}.wav").touch()
    with pytest.raises(UserError) as caught:
        tess.read(corpus, subset=True)
    message = str(caught.value)
    assert "noise.wav (not speaker, word, emotion" in message
    assert "OAF_horse_sad.wav (no word 'horse')" in message
    assert "OAF_back_bored.wav (no emotion 'bored')" in message


def test_a_file_renamed_to_another_emotion_is_noticed(corpus):
    (corpus / "OAF_angry" / "OAF_back_angry.wav").rename(corpus / "OAF_angry" / "OAF_back_sad.wav")
    with pytest.raises(UserError, match="1 of 2799 utterances are there more than once"):
        tess.read(corpus)


def test_hidden_files_of_a_macos_archive_are_not_taken_for_speech(corpus):
    (corpus / "OAF_angry" / "._OAF_back_angry.wav").write_bytes(b"\0")
    assert len(tess.read(corpus)) == 2800


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: folder.touch(), "is a file, not a folder"),
        (lambda folder: (folder / "OAF_angry").mkdir(parents=True), r"no \*\.wav file"),
    ],
)
def test_a_folder_that_holds_no_corpus_is_answered_with_what_to_configure(tmp_path, make, fault):
    folder = tmp_path / "nö corpus"
    make(folder)
    with pytest.raises(UserError, match=fault) as caught:
        tess.read(folder)
    assert "`paths: {tess: ...}` in config.yaml" in str(caught.value)
