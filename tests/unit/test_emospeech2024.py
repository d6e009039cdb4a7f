"""EmoSPeech 2024: the organisers' tables are read whole, with audio where there is any."""

from __future__ import annotations

import csv
import shutil

import pytest

from serflow.corpora import emospeech2024
from serflow.errors import UserError
from serflow.tables import LISTING


@pytest.fixture
def tables(shared_data):
    folder = shared_data / "emospeech2024"
    if not folder.is_dir():
        pytest.skip(f"needs train.csv and test.csv of EmoSPeech 2024, and there is no {folder}")
    return folder


@pytest.fixture
def copy(tables, tmp_path):
    folder = tmp_path / "EmoSPeech añadido"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / name).write_bytes((tables / name).read_bytes())
    return folder


def ids(folder, name):
    with (folder / name).open(encoding="utf-8", newline="") as lines:
        return [row["id"] for row in csv.DictReader(lines)]


def edit(folder, name, old, new):
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_real_tables_are_3000_and_750_utterances_with_the_published_classes(tables, tmp_path):
    listing = emospeech2024.read(tables)
    assert listing["split"].value_counts().to_dict() == {"train": 3000, "test": 750}
    assert listing["label_raw"].value_counts().to_dict() == emospeech2024.COUNTS
    assert listing.loc[listing["split"] == "test", "label_raw"].isna().all()
    assert listing[["path", "speaker", "label"]].isna().all().all()
    assert listing["text"].notna().all()
    assert set(listing["language"]) == {"es"}
    LISTING.write(listing, tmp_path / "listing.parquet")
    assert LISTING.read(tmp_path / "listing.parquet").equals(listing)


def test_the_tables_own_order_is_kept_for_published_folds_shuffle_it(tables):
    listing = emospeech2024.read(tables)
    train = listing[listing["split"] == "train"].sort_values("position")
    expected = [f"emospeech2024/{i.removesuffix('.mp3')}" for i in ids(tables, "train.csv")]
    assert train["utterance_id"].tolist() == expected
    assert train["position"].tolist() == list(range(3000))


def test_audio_is_found_at_any_depth_and_through_links(copy, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "elsewhere" / split).mkdir(parents=True)
        for name in ids(copy, f"{split}.csv"):
            (tmp_path / "elsewhere" / split / name).touch()
    (copy / "audio").symlink_to(tmp_path / "elsewhere")
    rows = emospeech2024.read(copy).set_index("utterance_id")
    assert rows.loc["emospeech2024/9591e23d-70123687", "path"] == (
        "audio/train/9591e23d-70123687.mp3"
    )
    assert rows["path"].notna().all()


def test_an_archive_unpacked_half_is_named_and_subset_takes_the_rest_as_text(copy):
    names = ids(copy, "train.csv")
    for name in names[1:]:
        (copy / name).touch()
    with pytest.raises(
        UserError, match=r"1 of 3000 utterances of train.csv have no audio"
    ) as caught:
        emospeech2024.read(copy)
    assert names[0].removesuffix(".mp3") in str(caught.value)
    assert emospeech2024.read(copy, subset=True)["path"].notna().sum() == 2999
    (copy / names[0]).touch()
    # Audio of one table only is no accident: the organisers gave them out apart.
    assert emospeech2024.read(copy)["path"].notna().sum() == 3000


def test_a_test_item_among_the_training_items_is_named(copy):
    test_id = ids(copy, "test.csv")[0]
    edit(copy, "train.csv", ids(copy, "train.csv")[0], test_id)
    with pytest.raises(UserError, match=f"1 ids are there more than once.*{test_id[:-4]}"):
        emospeech2024.read(copy, subset=True)


def test_a_changed_label_and_a_lost_row_are_found(copy):
    edit(copy, "train.csv", ".mp3,joy,", ".mp3,fear,")
    with pytest.raises(UserError, match=r"class fear: 24, published 23\n.*class joy: 361"):
        emospeech2024.read(copy)
    assert len(emospeech2024.read(copy, subset=True)) == 3750
    (copy / "test.csv").write_text("id,transcription\n")
    with pytest.raises(UserError, match="table test: 0, published 750"):
        emospeech2024.read(copy)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (".mp3,anger,", ".mp3,enojo,", "line 2: expected id, label, transcription with a label of"),
        ("id,label,", "id,emotion,", "lacks the columns label; it has id, emotion, transcription"),
        ("9591e23d-70123687.mp3,", ",", "line 2: expected id"),
    ],
)
def test_a_damaged_table_says_where(copy, old, new, fault):
    edit(copy, "train.csv", old, new)
    with pytest.raises(UserError, match=fault):
        emospeech2024.read(copy, subset=True)


HEADER = "id,label,transcription\n"


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("a.mp3,joy,Hola, que tal\nb.mp3,anger,no\n", r"1 rows .* line 2 \(a\.mp3: 4 fields\)"),
        ("a.mp3,joy\nb.mp3,anger,no\n", r"line 2 \(a\.mp3: 2 fields\)"),
        ('a.mp3,joy,"Hola\nb.mp3,anger,no\n', "end of data, after line 1: look for a quote"),
        ('a.mp3,joy,"Hola\nb.mp3,anger,no"\n', r"line 3 \(a\.mp3: a line break\)"),
        ('a.mp3,joy,"Hola" que\n', "after line 1: look for a quote"),
    ],
)
def test_a_stray_comma_or_quote_cuts_no_text_and_swallows_no_row(tmp_path, rows, fault):
    """Of 'Hola, que tal' without quotes, 'Hola' was left."""
    (tmp_path / "train.csv").write_text(HEADER + rows)
    with pytest.raises(UserError, match=fault):
        emospeech2024.read(tmp_path, subset=True)


def test_quoted_commas_and_blank_lines_are_no_fault(tmp_path):
    (tmp_path / "train.csv").write_text(f'{HEADER}\na.mp3,joy,"Hola, ""que"" tal"\n\n')
    assert emospeech2024.read(tmp_path, subset=True)["text"].tolist() == ['Hola, "que" tal']


def test_audio_that_was_thrown_away_is_not_found_again(tmp_path):
    (tmp_path / "train.csv").write_text(HEADER + "a.mp3,joy,x\n")
    (tmp_path / ".Trash-0" / "files").mkdir(parents=True)
    (tmp_path / ".Trash-0" / "files" / "a.mp3").touch()
    assert emospeech2024.read(tmp_path, subset=True)["path"].isna().all()


def test_one_table_is_a_subset_and_none_is_an_error(copy):
    (copy / "test.csv").unlink()
    with pytest.raises(UserError, match=r"test.csv: No such file.*`paths: {emospeech2024: ...}`"):
        emospeech2024.read(copy)
    assert len(emospeech2024.read(copy, subset=True)) == 3000
    (copy / "train.csv").unlink()
    shutil.copy(__file__, copy / "x.txt")
    with pytest.raises(UserError, match=r"train.csv: No such file"):
        emospeech2024.read(copy, subset=True)
