"""CREMA-D: audio, actors and votes are read whole and right; damaged copies are refused by name."""

from __future__ import annotations

import csv

import pytest

from serflow.corpora import crema_d
from serflow.errors import UserError
from serflow.tables import LISTING, VOTES

# Heads and rows as published; the tabulated votes are without the columns that nobody reads, and
# the last two rows are made up to fit the summary.
SUMMARY = """\
"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"
"1","1001_IEO_NEU_XX","N","69.1","N","92.22","N","64.78"
"4","1001_IEO_HAP_HI","H","63.5","H","68.25","H","73.2"
"7","1001_IEO_SAD_HI","N","60.14","A:F","30.67:51.00","N","63.5"
"9","1001_IEO_ANG_MD","A:D","37.2:58.6","A","45.5","A","44.2"
"""
TABULATED = """\
"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp",\
"meanAngerResp","meanDisgustResp","meanFearResp","meanHappyResp","meanNeutralResp","meanSadResp"
"100001",0,0,0,1,10,0,"1001_IEO_NEU_XX",11,0.909090909090909,"N",71.7,-1,-1,-1,98,69.1,-1
"100009",5,5,0,0,1,1,"1001_IEO_ANG_MD",12,0.416666666666667,"A:D",50.6,37.2,58.6,-1,-1,57,71
"200009",8,2,0,0,1,0,"1001_IEO_ANG_MD",11,0.727272727272727,"A",50.2,45.5,60,-1,-1,57,-1
"300009",9,2,0,0,0,0,"1001_IEO_ANG_MD",11,0.818181818181818,"A",45.9,44.2,50,-1,-1,-1,-1
"""
RATED = ("1001_IEO_NEU_XX", "1001_IEO_HAP_HI", "1001_IEO_SAD_HI", "1001_IEO_ANG_MD")


def write_actors(path):
    """48 men and 43 women, of whom the recorded clips are as many as in the real corpus."""
    whole = [actor for actor in crema_d.ACTORS if actor not in ("1008", "1009", "1019")]
    women = {"1002", "1008", "1009", "1076", *[a for a in whole if a not in ("1002", "1076")][:39]}
    lines = [
        f'{actor},51,"{"Female" if actor in women else "Male"}","Caucasian","Not Hispanic"'
        for actor in crema_d.ACTORS
    ]
    path.write_text("\n".join(['"ActorID","Age","Sex","Race","Ethnicity"', *lines]) + "\n")


@pytest.fixture
def corpus(tmp_path):
    """The published names and a table of actors as in the official repository, without sound."""
    root = tmp_path / "CREMA-D"
    (root / "AudioWAV").mkdir(parents=True)
    for stem in crema_d.published():
        (root / "AudioWAV" / f"{stem}.wav").touch()
    write_actors(root / crema_d.DEMOGRAPHICS)
    return root


@pytest.fixture
def rated(tmp_path):
    """A few clips with the published tables of votes."""
    root = tmp_path / "rated"
    (root / "AudioWAV").mkdir(parents=True)
    for stem in RATED:
        (root / "AudioWAV" / f"{stem}.wav").touch()
    write_actors(root / crema_d.DEMOGRAPHICS)
    (root / "processedResults").mkdir()
    (root / crema_d.SUMMARY).write_text(SUMMARY)
    (root / crema_d.TABULATED).write_text(TABULATED)
    return root


@pytest.fixture
def real(shared_data):
    folder = shared_data / "crema-d"
    if not folder.is_dir():
        pytest.skip(f"needs real CREMA-D recordings and tables, and there is no {folder}")
    return folder


def test_the_whole_corpus_is_7442_utterances_with_the_published_class_counts(corpus, tmp_path):
    listing = crema_d.read(corpus)
    assert len(listing) == 7442
    assert listing["label_raw"].value_counts().to_dict() == {
        "neutral": 1087,
        **dict.fromkeys(("anger", "disgust", "fear", "happy", "sad"), 1271),
    }
    assert listing["speaker"].nunique() == 91
    assert listing["intensity"].value_counts().to_dict() == {
        "unspecified": 6077,
        **dict.fromkeys(("low", "medium", "high"), 455),
    }
    short = listing["speaker"].value_counts().loc[lambda n: n < 82].to_dict()
    assert short == {"1002": 81, "1076": 81, "1008": 76, "1009": 76, "1019": 76}
    LISTING.write(listing, tmp_path / "listing.parquet")
    assert LISTING.read(tmp_path / "listing.parquet").equals(listing)


def test_the_expected_names_are_those_of_the_official_list(real):
    with (real / "SentenceFilenames.csv").open(newline="") as lines:
        official = {row["Filename"] for row in csv.DictReader(lines)}
    assert len(official) == 7442
    assert crema_d.published() == official


def test_the_official_table_of_actors_has_48_men_and_43_women_and_their_published_share(real):
    actors = crema_d.read_actors(real / crema_d.DEMOGRAPHICS)
    genders = [actor["gender"] for actor in actors.values()]
    assert (genders.count("male"), genders.count("female")) == (48, 43)
    clips = [actors[stem[:4]]["gender"] for stem in crema_d.published()]
    assert {gender: clips.count(gender) for gender in crema_d.PER_GENDER} == crema_d.PER_GENDER
    assert {actor["age"] for actor in actors.values()} >= {20, 74}
    assert actors["1001"] == {
        "gender": "male",
        "age": 51,
        "race": "Caucasian",
        "ethnicity": "Not Hispanic",
    }


def test_real_recordings_are_a_subset_with_their_actors(real):
    listing = crema_d.read(real, subset=True)
    assert len(listing) == 12
    row = listing.set_index("utterance_id").loc["crema_d/1002_DFA_FEA_XX"]
    assert row["path"] == "AudioWAV/1002_DFA_FEA_XX.wav"
    assert (row["speaker"], row["gender"], row["age"]) == ("1002", "female", 21)
    assert (row["label_raw"], row["intensity"]) == ("fear", "unspecified")
    assert (row["sentence_id"], row["text"]) == ("DFA", "Don't forget a jacket.")
    assert crema_d.read_votes(real, listing).empty
    assert crema_d.read(real / "AudioWAV", subset=True)["path"][0] == "1001_DFA_ANG_XX.wav"
    with pytest.raises(UserError, match="12 utterances, published 7442"):
        crema_d.read(real)


def test_the_file_that_older_copies_misname_is_the_same_utterance(corpus):
    wav = corpus / "AudioWAV"
    (wav / "1040_ITH_SAD_XX.wav").rename(wav / "1040_ITH_SAD_X.wav")
    row = crema_d.read(corpus).set_index("utterance_id").loc["crema_d/1040_ITH_SAD_XX"]
    assert row["path"] == "AudioWAV/1040_ITH_SAD_X.wav"
    assert row["intensity"] == "unspecified"
    (wav / "1040_ITH_SAD_XX.wav").touch()
    with pytest.raises(UserError, match=r"more than once in .*: 1040_ITH_SAD_XX"):
        crema_d.read(corpus)


def test_only_that_one_misnaming_is_forgiven(corpus):
    (corpus / "AudioWAV" / "1041_ITH_SAD_X.wav").touch()
    with pytest.raises(UserError, match=r"1041_ITH_SAD_X\.wav \(no intensity 'X'\)"):
        crema_d.read(corpus)


def test_a_missing_file_is_named_and_subset_accepts_the_rest(corpus):
    (corpus / "AudioWAV" / "1001_DFA_ANG_XX.wav").unlink()
    with pytest.raises(UserError) as caught:
        crema_d.read(corpus)
    message = str(caught.value)
    for part in (
        "7441 utterances, published 7442",
        "missing: 1001_DFA_ANG_XX",
        "class anger: 1270, published 1271",
        "actor 1001: 81, published 82",
        "subset: true",
    ):
        assert part in message
    assert len(crema_d.read(corpus, subset=True)) == 7441


def test_a_clip_that_was_never_recorded_is_named(corpus):
    (corpus / "AudioWAV" / "1008_WSI_ANG_XX.wav").touch()
    with pytest.raises(UserError, match="not part of it: 1008_WSI_ANG_XX"):
        crema_d.read(corpus)


def test_names_outside_the_scheme_are_listed_each_with_its_reason(corpus):
    for name in ("noise", "1092_DFA_ANG_XX", "1001_XYZ_ANG_XX", "1001_DFA_BOR_XX"):
        (corpus / "AudioWAV" / f"{name}.wav").touch()
    with pytest.raises(UserError) as caught:
        crema_d.read(corpus, subset=True)
    message = str(caught.value)
    for part in (
        "4 names",
        "noise.wav (not actor",
        "(no actor '1092')",
        "(no sentence 'XYZ')",
        "(no emotion 'BOR')",
    ):
        assert part in message


def test_hidden_files_of_a_macos_archive_are_not_taken_for_speech(corpus):
    (corpus / "AudioWAV" / "._1001_DFA_ANG_XX.wav").write_bytes(b"\0")
    assert len(crema_d.read(corpus)) == 7442


def test_a_copy_without_the_table_of_actors_is_told_where_it_comes_from(corpus):
    (corpus / crema_d.DEMOGRAPHICS).unlink()
    with pytest.raises(UserError, match=r"VideoDemographics.csv: No such file.*github.com/Chey"):
        crema_d.read(corpus)


def test_a_damaged_table_of_actors_is_named_with_line_or_actor(corpus):
    table = corpus / crema_d.DEMOGRAPHICS
    whole = table.read_text()
    table.write_text(whole.replace('1003,51,"Female"', '1003,51,"F"'))
    with pytest.raises(UserError, match=r"line 4: expected ActorID.*found '1003,51,F,Cauc"):
        crema_d.read(corpus)
    table.write_text(whole[: whole.index("1090,")])
    with pytest.raises(UserError, match="lacks 2 of 91 actors: 1090, 1091"):
        crema_d.read(corpus)
    table.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="lacks the columns ActorID, Age"):
        crema_d.read(corpus)


@pytest.mark.parametrize(
    ("label", "sad", "anger"),
    [
        ("intended", "sad", "anger"),
        ("voice", "neutral", "no_agreement"),
        ("face", "no_agreement", "anger"),
        ("multimodal", "neutral", "anger"),
    ],
)
def test_a_voted_label_is_what_most_raters_named_and_a_tie_is_no_agreement(
    rated, label, sad, anger
):
    listing = crema_d.read(rated, label=label, subset=True).set_index("utterance_id")
    assert listing.loc["crema_d/1001_IEO_SAD_HI", "label_raw"] == sad
    assert listing.loc["crema_d/1001_IEO_ANG_MD", "label_raw"] == anger
    # What the actor was asked for stays.
    assert listing.loc["crema_d/1001_IEO_ANG_MD", "intensity"] == "medium"


def test_voted_labels_without_the_table_of_votes_are_refused_with_its_source(rated):
    (rated / crema_d.SUMMARY).unlink()
    with pytest.raises(UserError, match=r"summaryTable.csv: No such file.*github.com/Chey"):
        crema_d.read(rated, label="voice", subset=True)
    assert len(crema_d.read(rated, subset=True)) == 4


def test_a_damaged_or_short_table_of_votes_is_named(rated):
    summary = rated / crema_d.SUMMARY
    summary.write_text(SUMMARY.replace('"H","63.5"', '"Q","63.5"'))
    with pytest.raises(UserError, match="line 3: expected VoiceVote of A, D, F, H, N, S"):
        crema_d.read(rated, label="voice", subset=True)
    summary.write_text("".join(SUMMARY.splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="no row for 1 of 4 utterances: 1001_IEO_ANG_MD"):
        crema_d.read(rated, label="voice", subset=True)


def test_votes_are_counted_for_every_view_and_label_with_the_level_that_raters_gave(
    rated, tmp_path
):
    listing = crema_d.read(rated, subset=True)
    angry = listing[listing["utterance_id"] == "crema_d/1001_IEO_ANG_MD"]
    votes = crema_d.read_votes(rated, angry)
    assert len(votes) == 3 * 6
    cell = votes.set_index(["view", "label"])
    assert cell.loc["voice", "votes"].to_dict() == {
        "anger": 5,
        "disgust": 5,
        "fear": 0,
        "happy": 0,
        "neutral": 1,
        "sad": 1,
    }
    assert cell.loc[("voice", "disgust"), "level"] == 58.6
    assert cell.loc[("face", "anger"), "votes"] == 8
    assert cell.loc[("multimodal", "anger"), "level"] == 44.2
    # The table writes -1 where nobody named the emotion.
    assert votes.loc[votes["votes"] == 0, "level"].isna().all()
    VOTES.write(votes, tmp_path / "votes.parquet")
    assert len(VOTES.read(tmp_path / "votes.parquet")) == 18


def test_votes_that_lack_a_view_of_an_utterance_are_refused(rated):
    listing = crema_d.read(rated, subset=True)
    neutral = listing[listing["utterance_id"] == "crema_d/1001_IEO_NEU_XX"]
    with pytest.raises(UserError, match=r"\(face\) has no row for 1 of 1 .*: 1001_IEO_NEU_XX"):
        crema_d.read_votes(rated, neutral)


@pytest.mark.parametrize(
    ("whole", "broken"),
    [("200009", "900009"), ("200009", "two"), (",8,2,0", ",eight,2,0"), ("45.5,60", "NA,60")],
)
def test_a_damaged_line_of_votes_is_named(rated, whole, broken):
    (rated / crema_d.TABULATED).write_text(TABULATED.replace(whole, broken))
    with pytest.raises(UserError, match=r"tabulatedVotes.csv, line 4: expected a row number"):
        crema_d.read_votes(rated, crema_d.read(rated, subset=True))


def test_votes_are_none_without_results_and_an_error_where_only_their_table_is_missing(rated):
    listing = crema_d.read(rated, subset=True)
    (rated / crema_d.TABULATED).unlink()
    with pytest.raises(UserError, match=r"tabulatedVotes.csv: No such file.*github.com/Chey"):
        crema_d.read_votes(rated, listing)
    (rated / crema_d.SUMMARY).unlink()
    (rated / "processedResults").rmdir()
    votes = crema_d.read_votes(rated, listing)
    assert votes.empty
    assert list(votes.columns) == list(VOTES.columns)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: folder.touch(), "is a file, not a folder"),
        (lambda folder: (folder / "AudioWAV").mkdir(parents=True), r"no \*\.wav file"),
    ],
)
def test_a_folder_that_holds_no_corpus_is_answered_with_what_to_configure(tmp_path, make, fault):
    folder = tmp_path / "nö corpus"
    make(folder)
    with pytest.raises(UserError, match=fault) as caught:
        crema_d.read(folder)
    assert "`paths: {crema_d: ...}` in config.yaml" in str(caught.value)
