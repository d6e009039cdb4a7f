"""Anyone's own corpus, declared without a line of code."""

import pandas as pd
import pytest

from serflow.corpora import table
from serflow.errors import UserError

ROWS = pd.DataFrame(
    {
        "file": ["a b/ä1.wav", "2.wav"],
        "label": ["joy", "001"],
        "speaker": ["01", "NA"],
        "valence": ["0.5", ""],
    }
)
COLUMNS = {"path": "file"}


def written(tmp_path, rows=ROWS, name="my table.csv"):
    rows.to_csv(tmp_path / name, index=False, sep="\t" if name.endswith("tsv") else ",")
    return tmp_path


@pytest.mark.parametrize("name", ["my table.csv", "t.tsv"])
def test_names_stay_text_and_gaps_stay_gaps(tmp_path, name):
    """A speaker 01 must not become 1, nor a speaker called NA disappear."""
    root = written(tmp_path, name=name)
    rows = table.read(root, corpus="mine", table=name, columns=COLUMNS).set_index("utterance_id")
    assert set(rows.index) == {"mine/a b/ä1.wav", "mine/2.wav"}
    assert rows.loc["mine/a b/ä1.wav", "speaker"] == "01"
    assert rows.loc["mine/2.wav", "speaker"] == "NA"
    assert rows.loc["mine/2.wav", "label_raw"] == "001"
    assert pd.isna(rows.loc["mine/2.wav", "valence"])


def test_a_parquet_table_reads_the_same(tmp_path):
    ROWS.to_parquet(tmp_path / "t.parquet")
    rows = table.read(tmp_path, corpus="mine", table="t.parquet", columns=COLUMNS)
    assert rows["valence"].tolist()[0:2] != []
    assert set(rows["label_raw"]) == {"joy", "001"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labl": "x"}, "unknown ones labl"),
        ({"valence": "high"}, "'valence' in t.csv holds 'high' in row 1; expected a number"),
        ({"gender": "F"}, "'gender' must be one of female, male; found F"),
        ({"utterance_id": "same"}, "utterance_id must be unique"),
    ],
)
def test_a_bad_table_says_what_and_where(tmp_path, change, message):
    root = written(tmp_path, ROWS.assign(**change), "t.csv")
    with pytest.raises(UserError, match=message):
        table.read(root, corpus="mine", table="t.csv", columns=COLUMNS)


def test_a_missing_table_names_the_file(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(UserError, match=r"none\.csv is not a file in one of the formats"):
        table.read(tmp_path, corpus="mine", table="none.csv", columns=COLUMNS)
