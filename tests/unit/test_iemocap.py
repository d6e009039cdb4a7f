"""IEMOCAP: the whole release passes its published counts, and a damaged one is refused by name."""

from __future__ import annotations

import shutil

import pytest

from corpus_trees import write_iemocap
from serflow.corpora import iemocap
from serflow.errors import UserError
from serflow.tables import LISTING, VOTES

FIRST = "Ses01F_impro01_F000"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """All 10,039 utterances, with counts as published; read only."""
    return write_iemocap(tmp_path_factory.mktemp("iemocap") / "IEMOCAP – full", complete=True)


@pytest.fixture
def small(tmp_path):
    """Sixteen utterances of each session, which a test may damage."""
    return write_iemocap(tmp_path / "IEMOCAP small", sound=False)


@pytest.fixture(scope="module")
def listing(release):
    return iemocap.read(release)


def edit(folder, name, old, new, kind="EmoEvaluation"):
    file = folder / f"Session{name[4]}" / "dialog" / kind / f"{name}.txt"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_whole_release_has_every_published_count(listing, tmp_path):
    assert len(listing) == 10_039
    assert listing["label_raw"].value_counts().to_dict() == iemocap.COUNTS
    assert sum(iemocap.COUNTS.values()) == sum(iemocap.PER_SESSION.values()) == 10_039
    assert sum(iemocap.FOUR_PER_SESSION.values()) == 5_531
    assert sum(iemocap.FOUR_PER_GENDER.values()) == sum(iemocap.FOUR_PER_STYLE.values()) == 5_531
    LISTING.write(listing, tmp_path / "listing.parquet")
    assert LISTING.read(tmp_path / "listing.parquet").equals(listing)


def test_labels_are_as_written_for_merging_them_is_the_studys_choice(listing):
    assert {"exc", "hap", "fru", "xxx"} <= set(listing["label_raw"])
    assert listing["label"].isna().all()


def test_the_speaker_is_the_last_letter_not_the_one_who_wears_the_markers(listing):
    """Toolkits that read Ses01F as the speaker give women's turns to men and the reverse."""
    rows = listing.set_index("utterance_id")
    woman, man = (
        rows[rows.index.str.match(rf"iemocap/Ses01F_impro01_{letter}\d+")].iloc[0]
        for letter in "FM"
    )
    assert (woman["speaker"], woman["gender"]) == ("1F", "female")
    assert (man["speaker"], man["gender"]) == ("1M", "male")
    assert listing["speaker"].nunique() == 10
    assert listing.groupby("speaker")["session"].nunique().max() == 1


def test_scripted_turns_name_the_scripts_part_so_that_an_audit_sees_it_in_every_session(listing):
    scripted = listing[listing["style"] == "scripted"]
    assert set(scripted["sentence_id"]) == {"script01_1", "script01_2", "script03_2"}
    assert scripted.groupby("sentence_id")["session"].nunique().eq(5).all()
    assert listing.loc[listing["style"] == "improvised", "sentence_id"].isna().all()


def test_valence_comes_first_then_activation_then_dominance(small):
    """Read in MSP-Podcast's order, calm joy would become excited dislike."""
    row = iemocap.read(small, subset=True).set_index("utterance_id").loc[f"iemocap/{FIRST}"]
    assert (row["valence"], row["arousal"], row["dominance"]) == (2.5, 3.5, 4.0)
    assert row["path"] == f"Session1/sentences/wav/Ses01F_impro01/{FIRST}.wav"
    assert row["text"] == "Excuse me. [LAUGHTER] 0"
    assert (row["session"], row["style"], row["label_raw"]) == ("1", "improvised", "neu")


def test_remarks_in_transcripts_belong_to_no_utterance(small):
    edit(small, "Ses01F_impro01", f"{FIRST} [", f"F: {FIRST} [", "transcriptions")
    rows = iemocap.read(small, subset=True).set_index("utterance_id")
    assert rows["text"].isna().sum() == 1
    assert not rows["text"].str.contains("not fair|Hm.", na=False).any()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Well\x85 I don't know.", "Well… I don't know."),
        (b"Well\xe2\x80\xa6 I don't know.", "Well… I don't know."),
        (b"Well\x0b I\x0c don't\x1c know.", "Well\x0b I\x0c don't\x1c know."),
        (b"It\x92s caf\xe9.\r", "It’s café."),
        (b"Well \x81.", "Well \N{REPLACEMENT CHARACTER}."),
    ],
)
def test_a_control_or_a_windows_character_does_not_cut_the_words(small, raw, text):
    """str.splitlines ends a line at the ellipsis of Windows-1252 read as Latin-1."""
    file = small / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    file.write_bytes(file.read_bytes().replace(b"Excuse me. [LAUGHTER] 0", raw, 1))
    rows = iemocap.read(small, subset=True).set_index("utterance_id")
    assert rows.loc[f"iemocap/{FIRST}", "text"] == text
    assert rows["text"].notna().all()


def test_a_byte_order_mark_does_not_hide_the_first_line(small):
    for kind in ("transcriptions", "EmoEvaluation"):
        file = small / f"Session1/dialog/{kind}/Ses01F_impro01.txt"
        lines = file.read_bytes().removeprefix(b"% [START_TIME - END_TIME]")
        lines = lines.split(b"\n\n", 1)[-1] if kind == "EmoEvaluation" else lines
        file.write_bytes(b"\xef\xbb\xbf" + lines)
    rows = iemocap.read(small, subset=True).set_index("utterance_id")
    assert len(rows) == 80
    assert rows.loc[f"iemocap/{FIRST}", "text"] == "Excuse me. [LAUGHTER] 0"


def test_lines_that_end_in_bare_carriage_returns_are_refused_not_run_together(small):
    file = small / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r"))
    with pytest.raises(UserError, match="line 1: expected lines that end in a line feed"):
        iemocap.read(small, subset=True)


def test_one_session_is_a_subset_and_the_folder_above_will_do(small, tmp_path):
    for session in "2345":
        shutil.rmtree(small / f"Session{session}")
    small.rename(tmp_path / "IEMOCAP_full_release")
    rows = iemocap.read(tmp_path, subset=True)
    assert len(rows) == 16
    assert rows["path"].str.startswith("IEMOCAP_full_release/Session1/sentences/").all()
    with pytest.raises(UserError, match=r"session 2: 0, published 1811"):
        iemocap.read(tmp_path)


def test_an_utterance_without_audio_is_named_and_left_out_of_a_subset(small):
    (small / f"Session1/sentences/wav/Ses01F_impro01/{FIRST}.wav").unlink()
    with pytest.raises(UserError, match=rf"1 of 80 utterances .* no audio file: {FIRST}"):
        iemocap.read(small)
    assert len(iemocap.read(small, subset=True)) == 79


def test_audio_without_a_label_is_named_even_in_a_subset(small):
    (small / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F999.wav").touch()
    with pytest.raises(UserError, match=r"not in dialog/EmoEvaluation: Ses01F_impro01_F999"):
        iemocap.read(small, subset=True)


def test_one_changed_label_in_ten_thousand_is_found_by_class_and_session(release, tmp_path):
    copy = tmp_path / "copy"
    for session in release.glob("Session*"):
        shutil.copytree(session / "dialog", copy / session.name / "dialog")
        (copy / session.name / "sentences").symlink_to(session / "sentences")
    edit(copy, "Ses02F_impro01", "\tsad\t", "\tneu\t")
    with pytest.raises(UserError) as caught:
        iemocap.read(copy)
    message = str(caught.value)
    assert "class neu: 1709, published 1708" in message
    assert "session and class 2 sad: 196, published 197" in message
    assert len(iemocap.read(copy, subset=True)) == 10_039


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("\tneu\t", "\tjoy\t", r"line 3: expected \[start - end\], utterance, one of ang"),
        ("[2.5000, 3.5000, 4.0000]", "[2.5000, 3.5000]", r"line 3: expected"),
        ("F001\t", "F000\t", r"line 10: expected an utterance that has no label yet"),
    ],
)
def test_a_damaged_line_is_named_with_file_and_number(small, old, new, fault):
    edit(small, "Ses01F_impro01", old, new)
    with pytest.raises(UserError, match=fault) as caught:
        iemocap.read(small, subset=True)
    assert "Ses01F_impro01.txt" in str(caught.value)


def test_votes_count_listeners_not_the_actors_themselves(small, tmp_path):
    edit(small, "Ses01F_impro01", f"{FIRST}\tneu", f"{FIRST}\txxx")
    edit(small, "Ses01F_impro01", "C-E3:\tNeutral;", "C-E3:\tNeutral; Anger;")
    votes = iemocap.read_votes(small, iemocap.read(small, subset=True))
    VOTES.write(votes, tmp_path / "votes.parquet")
    assert len(votes) == 80 * 10
    assert set(votes["view"]) == {"listeners"}
    first = votes[votes["utterance_id"] == f"iemocap/{FIRST}"].set_index("label")["votes"]
    # One listener named two categories; the actor's own Anger (C-F1) does not count.
    assert first[first > 0].to_dict() == {"ang": 1, "neu": 3}
    assert set(votes["label"]) == set(iemocap.COUNTS) - {"xxx"}


def test_a_blank_before_the_colon_loses_no_listener(small):
    rows = iemocap.read(small, subset=True)
    votes = iemocap.read_votes(small, rows)
    edit(small, "Ses01F_impro01", "C-E2:", " C-E2 :")
    assert iemocap.read_votes(small, rows).equals(votes)


def test_an_unknown_category_and_an_utterance_without_listeners_are_named(small):
    rows = iemocap.read(small, subset=True)
    edit(small, "Ses01F_impro01", "C-E4:\tNeutral;", "C-E4:\tBored;")
    with pytest.raises(UserError, match=r"line 6: expected categories of Anger"):
        iemocap.read_votes(small, rows)
    for number, left in ((2, "Neutral"), (3, "Neutral"), (4, "Bored")):
        edit(small, "Ses01F_impro01", f"C-E{number}:\t{left};", "")
    with pytest.raises(UserError, match=rf"for 1 of 80 utterances: {FIRST}"):
        iemocap.read_votes(small, rows)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: (folder / "audio").mkdir(parents=True), r"no Session1 \.\.\. Session5 in"),
        (lambda folder: (folder / "Session1").mkdir(parents=True), "no folder .*EmoEvaluation"),
    ],
)
def test_a_folder_that_holds_no_corpus_is_answered_with_what_to_configure(tmp_path, make, fault):
    make(tmp_path / "corpus")
    with pytest.raises(UserError, match=fault) as caught:
        iemocap.read(tmp_path / "corpus")
    assert "`paths: {iemocap: ...}` in config.yaml" in str(caught.value)
