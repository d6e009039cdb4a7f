"""EmoDB: the real corpus is read whole and right, and a damaged one is refused by name."""

from __future__ import annotations

import pytest

from serflow.corpora import emodb
from serflow.errors import UserError
from serflow.tables import LISTING


@pytest.fixture
def copy(emodb_folder, tmp_path):
    """A copy of the real corpus that a test may damage: links, no bytes."""
    folder = tmp_path / "Berlin – emo db"
    (folder / "wav").mkdir(parents=True)
    for file in (emodb_folder / "wav").iterdir():
        (folder / "wav" / file.name).symlink_to(file)
    (folder / "erkennung.txt").write_bytes((emodb_folder / "erkennung.txt").read_bytes())
    return folder


def test_the_real_corpus_is_535_utterances_with_the_published_class_counts(emodb_folder, tmp_path):
    listing = emodb.read(emodb_folder)
    assert len(listing) == 535
    assert listing["label_raw"].value_counts().to_dict() == emodb.COUNTS
    assert sum(emodb.COUNTS.values()) == 535
    by_gender = listing.groupby("gender")["speaker"].nunique().to_dict()
    assert by_gender == {"female": 5, "male": 5}
    assert listing["sentence_id"].nunique() == 10
    LISTING.write(listing, tmp_path / "listing.parquet")
    assert LISTING.read(tmp_path / "listing.parquet").equals(listing)


def test_a_row_says_what_its_file_name_and_the_listeners_say(emodb_folder):
    row = emodb.read(emodb_folder).set_index("utterance_id").loc["emodb/12b03Ta"]
    assert row["path"] == "wav/12b03Ta.wav"
    assert (row["speaker"], row["gender"], row["language"]) == ("12", "male", "de")
    assert (row["sentence_id"], row["label_raw"]) == ("b03", "sadness")
    assert row["text"].startswith("An den Wochenenden")
    # erkennung.txt: "90,48" and "52,38" with decimal commas and no-break spaces.
    assert (row["recognition"], row["naturalness"]) == (0.9048, 0.5238)
    assert row[["label", "split", "session", "style", "arousal"]].isna().all()


def test_every_released_file_was_recognised_by_80_percent_of_listeners(emodb_folder):
    listing = emodb.read(emodb_folder)
    assert listing["recognition"].between(0.8, 1).all()
    assert listing["naturalness"].between(0.45, 1).all()


def test_the_wav_folder_itself_will_do_and_so_will_judgements_beside_the_files(copy):
    assert emodb.read(copy / "wav")["path"][0] == "03a01Fa.wav"
    (copy / "erkennung.txt").rename(copy / "wav" / "erkennung.txt")
    assert len(emodb.read(copy / "wav")) == 535


def test_hidden_files_of_a_macos_archive_are_not_taken_for_speech(copy):
    (copy / "wav" / "._03a01Fa.wav").write_bytes(b"\0")
    assert len(emodb.read(copy)) == 535


def test_a_missing_file_is_named_and_subset_accepts_the_rest(copy):
    (copy / "wav" / "03a01Fa.wav").unlink()
    with pytest.raises(UserError) as caught:
        emodb.read(copy)
    message = str(caught.value)
    assert "534 utterances, published 535" in message
    assert "missing: 03a01Fa" in message
    assert "class happiness: 70, published 71" in message
    assert "subset: true" in message
    assert len(emodb.read(copy, subset=True)) == 534


def test_a_recording_that_was_never_released_is_named(copy):
    (copy / "wav" / "03a01Ab.wav").touch()
    with pytest.raises(UserError, match="not part of it: 03a01Ab"):
        emodb.read(copy)


def test_a_file_renamed_to_another_emotion_cannot_pass_for_the_real_corpus(copy):
    (copy / "wav" / "03a01Fa.wav").rename(copy / "wav" / "03a01Eb.wav")
    with pytest.raises(UserError, match=r"missing: 03a01Fa\n.*not part of it: 03a01Eb"):
        emodb.read(copy)


def test_names_outside_the_scheme_are_listed_each_with_its_reason(copy):
    for name in ("noise", "99a01Fa", "03a03Fa", "03a01Xa"):
        (copy / "wav" / f"{name}.wav").touch()
    with pytest.raises(UserError) as caught:
        emodb.read(copy, subset=True)
    message = str(caught.value)
    for part in (
        "4 names",
        "noise.wav (not speaker",
        "99a01Fa.wav (no speaker '99')",
        "03a03Fa.wav (no sentence 'a03')",
        "03a01Xa.wav (no emotion 'X')",
    ):
        assert part in message


def test_files_without_judgement_are_named(copy):
    votes = copy / "erkennung.txt"
    lines = votes.read_bytes().splitlines(keepends=True)
    votes.write_bytes(b"".join(line for line in lines if b"03a01F" not in line))
    with pytest.raises(UserError, match=r"no line for 1 of 535 files: 03a01Fa\.wav"):
        emodb.read(copy)


def test_damaged_or_missing_judgements_are_named_with_line_and_source(copy):
    votes = copy / "erkennung.txt"
    votes.write_bytes(votes.read_bytes().replace(b"03a01Fa.wav\t90,00", b"03a01Fa.wav\tninety"))
    with pytest.raises(UserError, match="line 4: expected number, file"):
        emodb.read(copy)
    votes.unlink()
    with pytest.raises(UserError, match=r"erkennung.txt: No such file.*download.zip"):
        emodb.read(copy)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: folder.touch(), "is a file, not a folder"),
        (lambda folder: (folder / "wav").mkdir(parents=True), r"no \*.wav file"),
    ],
)
def test_a_folder_that_holds_no_corpus_is_answered_with_what_to_configure(tmp_path, make, fault):
    folder = tmp_path / "nö corpus"
    make(folder)
    with pytest.raises(UserError, match=fault) as caught:
        emodb.read(folder)
    assert "`paths: {emodb: ...}` in config.yaml" in str(caught.value)
    assert str(folder) in str(caught.value)
