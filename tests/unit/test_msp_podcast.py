"""MSP-Podcast: labels, partitions and audio agree, or the difference is named."""

from __future__ import annotations

import shutil

import pytest

from corpus_trees import write_msp_podcast
from serflow.corpora import msp_podcast
from serflow.errors import UserError
from serflow.tables import LISTING

ITEM = "MSP-PODCAST_0001_0001"


@pytest.fixture
def small(tmp_path):
    return write_msp_podcast(tmp_path / "MSP Podcast 1.11", sound=False)


@pytest.fixture
def counted(small, monkeypatch):
    """The small tree taken for the whole release: 151,654 files take too long to write."""
    found = msp_podcast.read(small, subset=True)["partition"].value_counts().to_dict()
    monkeypatch.setattr(msp_podcast, "COUNTS", found)
    return small


def edit(folder, old, new, name="Labels/labels_consensus.csv"):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def test_the_partitions_of_release_1_11_are_151654_utterances():
    assert sum(msp_podcast.COUNTS.values()) == 151_654
    assert set(msp_podcast.COUNTS) == set(msp_podcast.SPLITS)


def test_a_row_says_what_table_partitions_and_transcript_say(counted, tmp_path):
    listing = msp_podcast.read(counted)
    row = listing.set_index("utterance_id").loc[f"msp_podcast/{ITEM}"]
    assert row["path"] == f"Audios/{ITEM}.wav"
    assert (row["label_raw"], row["partition"], row["split"]) == ("neutral", "Train", "train")
    assert (row["speaker"], row["gender"], row["session"]) == ("2", "female", "0001")
    assert (row["arousal"], row["valence"], row["dominance"]) == (2.6, 4.0, 3.0)
    assert row["text"] == "Well, that is item 1."
    LISTING.write(listing, tmp_path / "listing.parquet")
    assert LISTING.read(tmp_path / "listing.parquet").equals(listing)


def test_every_class_is_spelt_out_and_none_is_dropped(small):
    """X and O are no emotions, but whether they are dropped is the study's choice."""
    rows = msp_podcast.read(small, subset=True)
    assert set(rows["label_raw"].dropna()) == {
        *("neutral", "happy", "angry", "sad"),
        *("no_agreement", "other"),
    }


def test_test3_is_listed_without_labels_to_be_predicted(counted):
    rows = msp_podcast.read(counted)
    test3 = rows[rows["partition"] == "Test3"]
    assert len(test3) == 4
    assert set(test3["split"]) == {"test"}
    assert test3[["label_raw", "arousal", "speaker"]].isna().all().all()
    assert rows.loc[rows["partition"] != "Test3", "label_raw"].notna().all()


def test_unknown_speakers_are_not_one_person(small):
    """A speaker called Unknown would tie a thousand strangers into one fold."""
    rows = msp_podcast.read(small, subset=True)
    unknown = rows[rows["partition"].ne("Test3") & rows["speaker"].isna()]
    assert len(unknown) > 5
    assert "Unknown" not in set(rows["speaker"])
    assert unknown["gender"].isna().all()


@pytest.mark.parametrize("name", ["unknown", " Unknown", "UNKNOWN ", "nan", ""])
def test_unknown_speakers_are_unknown_in_any_spelling(small, name):
    before = msp_podcast.read(small, subset=True)
    edit(small, ",Unknown,Unknown,", f",{name},Unknown,")
    assert msp_podcast.read(small, subset=True)["speaker"].equals(before["speaker"])


@pytest.mark.parametrize("name", ["Labels/labels_consensus.csv", "Partitions.txt"])
@pytest.mark.parametrize("partition", ["Validation", ""])
def test_another_name_for_development_is_an_error_not_an_empty_dev_set(small, name, partition):
    old = ",Development" if name.endswith("csv") else "Development;"
    edit(small, old, old.replace("Development", partition), name)
    with pytest.raises(UserError) as caught:
        msp_podcast.read(small, subset=True)
    message = str(caught.value)
    assert "expected a partition of Train, Development, Test1, Test2, Test3" in message
    assert f"found {partition!r}" in message
    assert name in message


def test_another_release_is_answered_with_its_counts_and_with_subset(small):
    with pytest.raises(UserError) as caught:
        msp_podcast.read(small)
    message = str(caught.value)
    assert "partition (release 1.11) Train: 18, published 84030" in message
    assert "subset: true" in message


def test_a_missing_partition_is_a_difference_too(counted):
    for file in (counted / "Audios").glob("MSP-PODCAST_0002_*.wav"):
        file.unlink()
    edit(counted, "Development; ", "Train - ", "Partitions.txt")
    table = counted / "Labels" / "labels_consensus.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if "Development" not in line))
    with pytest.raises(UserError, match=r"Development: 0, published 10"):
        msp_podcast.read(counted)


def test_utterances_without_audio_and_audio_without_a_row_are_named(counted):
    (counted / "Audios" / f"{ITEM}.wav").rename(counted / "Audios" / "foreign.wav")
    with pytest.raises(UserError, match=r"not in labels_consensus.csv or Partitions.txt: foreign"):
        msp_podcast.read(counted, subset=True)
    (counted / "Audios" / "foreign.wav").unlink()
    with pytest.raises(UserError, match=f"have no audio file: {ITEM}"):
        msp_podcast.read(counted)
    assert f"msp_podcast/{ITEM}" not in set(msp_podcast.read(counted, subset=True)["utterance_id"])


def test_tables_of_two_releases_that_disagree_are_refused(small):
    edit(small, f"Train; {ITEM}.wav", f"Test1; {ITEM}.wav", "Partitions.txt")
    with pytest.raises(UserError, match=rf"1 utterances: {ITEM} \(Train, Test1\)"):
        msp_podcast.read(small, subset=True)


@pytest.mark.parametrize("first", [True, False])
def test_an_utterance_in_two_partitions_is_refused_whichever_line_comes_last(small, first):
    """The last line won: a test utterance without labels, Test3, became a training one."""
    file = small / "Partitions.txt"
    for item, other in (("MSP-PODCAST_0005_0000", "Train"), (ITEM, "Test1")):
        line, text = f"{other}; {item}.wav\n", file.read_text()
        file.write_text(line + text if first else text + line)
    with pytest.raises(UserError) as caught:
        msp_podcast.read(small, subset=True)
    message = str(caught.value)
    assert "Partitions.txt puts 2 utterances into two partitions" in message
    assert f"{ITEM} ({'Test1, Train' if first else 'Train, Test1'} in line" in message
    assert "MSP-PODCAST_0005_0000 (" in message


def test_an_utterance_listed_twice_alike_is_no_contradiction(small):
    before = msp_podcast.read(small, subset=True)
    file = small / "Partitions.txt"
    file.write_text(f"{file.read_text()}Train; {ITEM}.wav\n")
    assert msp_podcast.read(small, subset=True).equals(before)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (f"{ITEM}.wav,N,", f"{ITEM}.wav,Q,", "line 3: expected an EmoClass of A, S, H"),
        (f"{ITEM}.wav,N,2.600000", f"{ITEM}.wav,N,0.26", r"from 1 to 7; found '0.26"),
        (f"{ITEM}.wav,N,2.600000", f"{ITEM}.wav,N,", "an EmoAct from 1 to 7; found ''"),
        (f"{ITEM}.wav", "MSP-PODCAST_0001_0000.wav", "line 3: expected a FileName that no line"),
        (",Female,", ",woman,", "expected a Gender of Female, Male, Unknown"),
        ("SpkrID", "Speaker", "lacks the columns SpkrID"),
    ],
)
def test_a_damaged_table_says_where(small, old, new, fault):
    edit(small, old, new)
    with pytest.raises(UserError, match=fault):
        msp_podcast.read(small, subset=True)


def test_missing_transcripts_leave_the_text_missing_but_foreign_ones_are_noticed(small):
    (small / "Transcripts" / f"{ITEM}.txt").unlink()
    rows = msp_podcast.read(small, subset=True).set_index("utterance_id")
    assert rows.index[rows["text"].isna()].tolist() == [f"msp_podcast/{ITEM}"]
    for file in (small / "Transcripts").iterdir():
        file.rename(file.with_name(f"x{file.name}"))
    with pytest.raises(UserError, match=r"no file in .*Transcripts is named as an utterance"):
        msp_podcast.read(small, subset=True)
    shutil.rmtree(small / "Transcripts")
    assert msp_podcast.read(small, subset=True)["text"].isna().all()


def test_everything_in_one_folder_is_read_as_well(small):
    before = msp_podcast.read(small, subset=True)
    for file in [*(small / "Audios").iterdir(), *(small / "Labels").iterdir()]:
        file.rename(small / file.name)
    (small / "Audios").rmdir()
    rows = msp_podcast.read(small, subset=True)
    assert rows["path"][0] == f"{rows['utterance_id'][0].removeprefix('msp_podcast/')}.wav"
    assert rows.drop(columns="path").equals(before.drop(columns="path"))


def test_a_folder_without_tables_is_answered_with_what_to_configure(small):
    (small / "Partitions.txt").unlink()
    with pytest.raises(UserError, match=r"Partitions.txt: No such file"):
        msp_podcast.read(small)
    (small / "Labels" / "labels_consensus.csv").unlink()
    with pytest.raises(UserError, match=r"`paths: {msp_podcast: ...}` in config.yaml"):
        msp_podcast.read(small, subset=True)
