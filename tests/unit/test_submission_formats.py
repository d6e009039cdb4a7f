"""Files for the Odyssey 2024 challenge, and the check that anyone can run on a file of their own."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_trees import write_msp_podcast
from runs import ROOT
from serflow.corpora import msp_podcast
from serflow.errors import UserError
from serflow.submission import odyssey
from serflow.submission.formats import FORMATS, check_file
from serflow.tables import UTTERANCES

IDS = ["MSP-PODCAST_test3_0001.wav", "MSP-PODCAST_test3_0002.wav"]
GOOD = f"FileName,EmoClass\n{IDS[0]},A\n{IDS[1]},N\n"
RATED = f"FileName,EmoAct,EmoVal,EmoDom\n{IDS[0]},1,4.25,7\n{IDS[1]},3.000000,2e0,4\n"


def test_letters_and_columns_are_those_of_the_releases_own_labels():
    """Swapped columns pass every check of ranges and cost the whole task."""
    for letter, label in msp_podcast.CLASSES.items():
        assert odyssey.LETTERS.get(label, letter) == letter
    assert set(odyssey.LETTERS) == set(msp_podcast.CLASSES.values()) - {"other", "no_agreement"}
    assert list(odyssey.ATTRIBUTES) == ["EmoAct", "EmoVal", "EmoDom"], "the baseline's order"
    assert {c: a for a, c in msp_podcast.ATTRIBUTES.items()} == odyssey.ATTRIBUTES
    assert (odyssey.LOWEST, odyssey.HIGHEST) == (msp_podcast.LOWEST, msp_podcast.HIGHEST)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("FileName", "Filename", "header is Filename,EmoClass; expected FileName,EmoClass"),
        (f"{IDS[0]},A\n", "", rf"of the 2 ids of Test3, 1 are missing: {IDS[0]}"),
        ("_0001.wav", "_0001", r"1 are missing: .*0001\.wav; 1 are not in Test3: MSP\S+0001$"),
        (f"{IDS[1]},N\n", f"{IDS[1]},N\n{IDS[1]},N\n", "1 are there twice"),
        (",A", ",angry", r"EmoClass of 1 rows is not one of A, S, .*0001\.wav \(angry\)"),
        (",A", ",X", r"0001\.wav \(X\)"),
        (",A", ",", r"0001\.wav \(none\)"),
        (",A", ', "A', "categories.csv: "),
        (f"{IDS[0]},A\n{IDS[1]},N\n", f"{IDS[1]},A\n{IDS[0]},N\n", "from line 2 on"),
    ],
)
def test_categories_that_the_organisers_would_refuse(old, new, fault):
    odyssey.check_categories(GOOD, IDS)
    assert old in GOOD
    with pytest.raises(UserError, match=fault):
        odyssey.check_categories(GOOD.replace(old, new, 1), IDS)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("EmoAct,EmoVal,EmoDom", "EmoAct,EmoDom,EmoVal", "expected FileName,EmoAct,EmoVal,EmoDom"),
        ("4.25", "0.99", r"EmoVal of 1 rows is no number from 1 to 7: .*0001\.wav \(0\.99\)"),
        (",7\n", ",7.0001\n", r"EmoDom of 1 rows .*\(7\.0001\)"),
        ("4.25", "nan", r"\(nan\)"),
        ("4.25", "inf", r"\(inf\)"),
        ("4.25", "4_2", r"\(4_2\)"),
        ("4.25", "", r"\(none\)"),
        ("4.25", "4;25", r"\(4;25\)"),
        ("4.25", '"4,25"', r"\(4,25\)"),
    ],
)
def test_attributes_that_the_organisers_would_refuse(old, new, fault):
    odyssey.check_attributes(RATED, IDS)
    assert old in RATED
    with pytest.raises(UserError, match=fault):
        odyssey.check_attributes(RATED.replace(old, new, 1), IDS)


def test_a_class_that_is_learnt_only_is_never_handed_in():
    with pytest.raises(UserError, match=r"EmoClass of 1 rows is not one of .*\(other\)"):
        odyssey.categories_csv(IDS, {IDS[0]: "other", IDS[1]: "sad"})


def test_a_value_outside_the_scale_is_refused_and_not_clipped_unseen():
    rated = {name: {"arousal": 4, "valence": 7.5, "dominance": 1} for name in IDS}
    with pytest.raises(UserError, match=r"EmoVal of 2 rows is no number from 1 to 7"):
        odyssey.attributes_csv(IDS, rated)


NAMES = st.lists(
    st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), min_size=1, max_size=4, unique=True
)


@settings(max_examples=30, deadline=None)
@given(names=NAMES, data=st.data())
def test_what_is_written_reads_back_to_the_answers(names, data):
    labels = st.sampled_from(sorted(odyssey.LETTERS))
    answers = {name: data.draw(labels) for name in names}
    rows = csv.DictReader(io.StringIO(odyssey.categories_csv(names, answers)))
    found = {row["FileName"]: row["EmoClass"] for row in rows}
    assert found == {name: odyssey.LETTERS[label] for name, label in answers.items()}
    values = st.floats(1, 7)
    rated = {n: {a: data.draw(values) for a in odyssey.ATTRIBUTES.values()} for n in names}
    rows = list(csv.DictReader(io.StringIO(odyssey.attributes_csv(names, rated))))
    for row in rows:
        for column, attribute in odyssey.ATTRIBUTES.items():
            assert float(row[column]) == pytest.approx(rated[row["FileName"]][attribute], abs=1e-6)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A synthetic release, listed."""
    root = write_msp_podcast(tmp_path_factory.mktemp("msp") / "MSP", items={"Train": 2, "Test3": 3})
    listing = msp_podcast.read(root, subset=True)
    return listing.reindex(columns=list(UTTERANCES.columns))


def test_ids_are_the_file_names_of_test3_alone(release):
    ids = odyssey.expected_ids(release.sample(frac=1, random_state=1))
    hidden = release[release["partition"] == "Test3"]
    assert ids == sorted(hidden["path"].map(lambda path: path.rpartition("/")[2]))
    assert len(ids) == 3


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "serflow.submission", *map(str, arguments)],
        cwd=ROOT / "workflow/scripts", capture_output=True, text=True,
    )  # fmt: skip


def test_anyone_can_check_a_file_of_their_own_before_a_deadline(release, tmp_path):
    table = tmp_path / "utterances.parquet"
    UTTERANCES.write(release, table)
    file = tmp_path / "mine.csv"
    ids = odyssey.expected_ids(release)
    file.write_text(odyssey.categories_csv(ids, dict.fromkeys(ids, "fear")))
    done = run("odyssey2024_categories", file, table)
    assert done.returncode == 0, done.stderr
    assert "3 rows" in done.stdout
    file.write_text(file.read_text().replace(",F", ",Q", 1))
    done = run("odyssey2024_categories", file, table)
    assert done.returncode == 1
    assert f"EmoClass of 1 rows is not one of A, S, H, U, F, D, C, N: {ids[0]} (Q)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", FORMATS)
def test_a_corpus_without_the_test_part_checks_nothing_and_says_so(name, release, tmp_path):
    """With no ids to expect, an empty file would pass."""
    train = release[release["partition"] == "Train"]
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(UserError, match="hold no row of the test part"):
        check_file(name, tmp_path / "x.csv", train)


def test_a_file_of_another_encoding_is_named(release, tmp_path):
    (tmp_path / "x.csv").write_bytes("FileName,EmoClass\nä".encode("utf-16"))
    with pytest.raises(UserError, match=r"cannot read .*x\.csv"):
        check_file("odyssey2024_categories", tmp_path / "x.csv", release)


def test_a_results_file_without_any_answer_is_none(tmp_path):
    utterances = pd.DataFrame(
        {"utterance_id": ["emospeech2024/a"], "corpus": "emospeech2024", "split": "test"}
    ).assign(position=0, partition=None)
    (tmp_path / "results.csv").write_text("id,task_1,task_2\na,,\n")
    with pytest.raises(UserError, match="task_1 and task_2 are both empty"):
        check_file("emospeech2024", tmp_path / "results.csv", utterances)
