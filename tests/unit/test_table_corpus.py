"""Anyone's own corpus, declared without a line of code."""

import pandas as pd
import pytest

from serflow.corpora import table
from serflow.errors import UserError
from serflow.tables import LISTING

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


def read(tmp_path, text, name="t.csv", **settings):
    """The listing of a table written as it stands."""
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(content)
    return table.read(tmp_path, corpus="mine", table=name, **settings).sort_values("position")


@pytest.mark.parametrize("name", ["my table.csv", "t.tsv"])
def test_names_stay_text_and_gaps_stay_gaps(tmp_path, name):
    """A speaker 01 must not become 1, nor what R writes for an unknown one a person called NA."""
    root = written(tmp_path, name=name)
    rows = table.read(root, corpus="mine", table=name, columns=COLUMNS).set_index("utterance_id")
    assert set(rows.index) == {"mine/a b/ä1.wav", "mine/2.wav"}
    assert rows.loc["mine/a b/ä1.wav", "speaker"] == "01"
    assert pd.isna(rows.loc["mine/2.wav", "speaker"])
    assert rows.loc["mine/2.wav", "label_raw"] == "001"
    assert pd.isna(rows.loc["mine/2.wav", "valence"])
    LISTING.write(rows.reset_index(), tmp_path / "listing.parquet")


def test_a_parquet_table_reads_the_same(tmp_path):
    ROWS.to_parquet(tmp_path / "t.parquet")
    rows = table.read(
        tmp_path, corpus="mine", table="t.parquet", columns=COLUMNS, ignore=["valence"]
    )
    written(tmp_path, name="t.csv")
    text = table.read(tmp_path, corpus="mine", table="t.csv", columns=COLUMNS, ignore=["valence"])
    assert rows.equals(text)


def test_numbers_of_a_parquet_table_become_names_without_a_point(tmp_path):
    """A column of integers with one gap is one of floats to pandas: speaker 7 is not 7.0."""
    frame = pd.DataFrame(
        {"path": [1, 2], "label": ["joy", "fear"], "speaker": [7, None], "start": [0, 1]}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    rows = table.read(tmp_path, corpus="mine", table="t.parquet")
    assert rows["path"].tolist() == ["1", "2"]
    assert rows["speaker"][0] == "7" and pd.isna(rows["speaker"][1])
    assert rows["start"].tolist() == [0.0, 1.0]


def test_an_index_with_a_name_is_a_column_too(tmp_path):
    frame = pd.DataFrame({"label": ["joy"]}, index=pd.Index(["a.wav"], name="file"))
    frame.to_parquet(tmp_path / "t.parquet")
    rows = table.read(tmp_path, corpus="mine", table="t.parquet", columns=COLUMNS)
    assert rows["path"].tolist() == ["a.wav"]


@pytest.mark.parametrize(
    "text",
    [
        b"path,label,valence\na.wav,joy,0.5\nb.wav,fear,\n",
        b"\xef\xbb\xbfpath,label,valence\r\na.wav,joy,0.5\r\n\r\nb.wav,fear,\r\n",
        b"path;label;valence\na.wav;joy;0,5\nb.wav;fear;\n",
        b'"path", label ,"valence"\na.wav , joy,0.5\nb.wav,fear,',
    ],
    ids=["plain", "from Windows", "from a German spreadsheet", "with blanks"],
)
def test_spreadsheets_ways_of_writing_a_table_read_the_same(tmp_path, text):
    rows = read(tmp_path, text)
    assert rows["path"].tolist() == ["a.wav", "b.wav"]
    assert rows["label_raw"].tolist() == ["joy", "fear"]
    assert rows["valence"].tolist()[0] == 0.5 and pd.isna(rows["valence"].tolist()[1])


def test_a_text_with_commas_keeps_them_beside_semicolons(tmp_path):
    rows = read(tmp_path, "path;label;text\na.wav;joy;Oh, 1,5 of it\n")
    assert rows["text"].tolist() == ["Oh, 1,5 of it"]


def test_names_that_look_like_decimals_are_not_rewritten(tmp_path):
    """Only numbers have decimal commas: sentence 1,2 is not 1.2, nor is the label."""
    rows = read(
        tmp_path,
        "path;label;sentence_id;text;arousal;v\na.wav;1,5;1,2;3,5;0,5;1,25\nb.wav;2;2,1;4,5;;-2\n",
        columns={"valence": "v"},
        constants={"age": 30},
    )
    assert rows["label_raw"].tolist() == ["1,5", "2"]
    assert rows["sentence_id"].tolist() == ["1,2", "2,1"]
    assert rows["text"].tolist() == ["3,5", "4,5"]
    assert rows["arousal"].tolist()[0] == 0.5 and pd.isna(rows["arousal"].tolist()[1])
    assert rows["valence"].tolist() == [1.25, -2]
    assert rows["age"].tolist() == [30, 30]


def test_decimal_commas_beside_decimal_points_are_not_guessed_at(tmp_path):
    with pytest.raises(UserError, match=r"'arousal' in t\.csv holds '1,234' in row 1"):
        read(tmp_path, "path;label;arousal\na.wav;joy;1,234\nb.wav;joy;5.6\n")


@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [
        ("label", [["joy"], ["joy", "fear"]], "'label' in t.parquet holds a ndarray in row 1"),
        ("label", [b"joy", b"fear"], "'label' in t.parquet holds a bytes in row 1"),
        ("valence", [[1.0], [2.0, 3.0]], "'valence' in t.parquet holds a ndarray in row 1"),
        ("speaker", [None, {"id": 3}], "'speaker' in t.parquet holds a dict in row 2"),
    ],
)
def test_cells_that_are_no_text_and_no_number_are_named(tmp_path, column, values, fault):
    """Bytes became the label "b'joy'", and lists ended in a traceback."""
    frame = pd.DataFrame({"path": ["a.wav", "b.wav"], "label": "joy"}).astype(object)
    frame[column] = values
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=fault):
        table.read(tmp_path, corpus="mine", table="t.parquet")
    if column != "label":
        assert len(table.read(tmp_path, corpus="mine", table="t.parquet", ignore=[column])) == 2


def test_a_channel_is_a_whole_number(tmp_path):
    """Channel 1.7 would be cut to 1 without a word."""
    with pytest.raises(UserError, match=r"2 values of 'channel' .* row 1 \(1\.7\), row 3 \(-1"):
        read(tmp_path, "path,label,channel\na.wav,x,1.7\nb.wav,x,1\nc.wav,x,-1\nd.wav,x,\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.wav,joy,\nb.wav,fear,\n", "line 2 has 3 fields, the first line 2"),
        ("path,label\na.wav\n", "line 2 has 1 fields"),
        ("path,label,label\na.wav,joy,joy\n", "two columns of one name"),
        ("path,label\n", "has no rows"),
        ("", "has no rows"),
        ("path,label\nä.wav,joy\n".encode("latin-1"), "cannot read .* Save it as UTF-8"),
        ('path,label\n"a.wav,joy\n', "cannot read"),
    ],
)
def test_a_table_that_a_reader_would_shift_or_guess_is_refused(tmp_path, text, message):
    """pandas takes the first column for an index when rows are longer than the head."""
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labl": "x"}, r"unknown columns labl \(near label\): map .* \(`ignore: \[theirs\]`\)"),
        ({"position": "3"}, "unknown columns position"),
        ({"valence": "high"}, "'valence' in t.csv holds 'high' in row 1; expected a number"),
        ({"valence": "inf"}, "'valence' in t.csv holds 'inf' in row 1"),
        ({"gender": "x"}, "'gender' in t.csv holds x; expected one of female, f, w, male, m"),
        ({"split": "trian"}, "'split' in t.csv holds trian; expected one of train, training"),
        ({"utterance_id": "same"}, r"row 2 \(same\)|utterance_id must be unique"),
        ({"file": "../../etc/passwd"}, r"2 values of 'path' in t.csv leave '.', the folder"),
        ({"file": "/etc/passwd"}, "leave '.', the folder"),
        ({"file": "C:\\data\\a.wav"}, "leave '.', the folder"),
        ({"file": ""}, "2 values of 'utterance_id' in t.csv are missing, and there is no path"),
        ({"label": ""}, r"2 values of 'label' .* row 1, row 2"),
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


def test_paths_start_from_the_audio_folder_and_may_be_written_on_windows(tmp_path):
    text = "path,label\nclips\\a.wav,joy\n./clips/b/../b.wav,fear\n"
    rows = read(tmp_path, text, audio="wav files")
    assert rows["path"].tolist() == ["wav files/clips/a.wav", "wav files/clips/b.wav"]
    assert rows["utterance_id"].tolist() == ["mine/clips/a.wav", "mine/clips/b.wav"]
    assert read(tmp_path, text, audio="../other")["path"].tolist()[0] == "../other/clips/a.wav"


def test_an_audio_folder_elsewhere_keeps_absolute_paths(tmp_path):
    text = "path,label\na.wav,joy\n/data/set/b.wav,fear\n"
    rows = read(tmp_path, text, audio="/data/set")
    assert rows["path"].tolist() == ["/data/set/a.wav", "/data/set/b.wav"]
    assert rows["utterance_id"].tolist() == ["mine/a.wav", "mine/b.wav"]
    with pytest.raises(UserError, match=r"row 2 \(/data/set/b.wav\)"):
        read(tmp_path, text, audio="/data/other")


def test_gender_and_split_are_understood_in_the_usual_words(tmp_path):
    values = ("F,Training", "w,VALID", "Male,eval", "m,development", ",test")
    text = "path,label,gender,split\n" + "\n".join(f"{i}.wav,x,{v}" for i, v in enumerate(values))
    rows = read(tmp_path, text)
    assert rows["gender"].fillna("-").tolist() == ["female", "female", "male", "male", "-"]
    assert rows["split"].tolist() == ["train", "dev", "test", "dev", "test"]


def test_a_label_may_be_missing_only_where_it_is_to_be_predicted(tmp_path):
    text = "path,label,split\na.wav,,test\nb.wav,joy,train\n"
    assert read(tmp_path, text)["label_raw"].isna().tolist() == [True, False]
    with pytest.raises(UserError, match=r"1 values of 'label' in t.csv are missing .*: row 1"):
        read(tmp_path, text.replace("test", "dev"))


def test_texts_without_audio_need_an_id_of_their_own(tmp_path):
    rows = read(tmp_path, "utterance_id,label,text\n1,joy,Ja!\n2,fear,Nein?\n")
    assert rows["utterance_id"].tolist() == ["mine/1", "mine/2"]
    assert rows["path"].isna().all()
    with pytest.raises(UserError, match="give every row an id of its own"):
        read(tmp_path, "label,text\njoy,Ja!\n")
    with pytest.raises(UserError, match="lacks the columns path and text"):
        read(tmp_path, "utterance_id,label\n1,joy\n")
    with pytest.raises(UserError, match="neither a path nor a text"):
        read(tmp_path, "utterance_id,label,text\n1,joy,\n")


def test_utterances_of_one_file_need_ids(tmp_path):
    text = "path,label,start,end\nlong.wav,joy,0,1\nlong.wav,fear,1,2\n"
    with pytest.raises(UserError, match=r"must be unique. .*: row 2 \(long.wav\)"):
        read(tmp_path, text)
    rows = read(
        tmp_path, "utterance_id," + text[:21] + "\n1,long.wav,joy,0,1\n2,long.wav,joy,1,2\n"
    )
    assert rows["path"].tolist() == ["long.wav", "long.wav"]


def test_the_tables_order_is_kept_in_position(tmp_path):
    rows = read(tmp_path, "path,label\nz.wav,joy\na.wav,joy\nm.wav,fear\n")
    assert rows["path"].tolist() == ["z.wav", "a.wav", "m.wav"]
    assert rows["position"].tolist() == [0, 1, 2]


def test_columns_of_the_table_are_mapped_ignored_or_given_one_value(tmp_path):
    text = "file,emotion,speaker,notes\na.wav,joy,1,hm\n"
    rows = read(
        tmp_path,
        text,
        columns={"path": "file", "utterance_id": "file", "label": "emotion", "session": "speaker"},
        constants={"language": "de", "speaker": 3.0, "channel": 1},
        ignore=["notes"],
    )
    row = rows.iloc[0]
    assert (row["utterance_id"], row["path"], row["session"]) == ("mine/a.wav", "a.wav", "1")
    assert (row["language"], row["speaker"], row["channel"]) == ("de", "3", 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"columns": {"label": "emotoin"}},
            r"`columns` names emotoin \(near emotion\), which t.csv",
        ),
        ({"ignore": ["note"]}, r"`ignore` names note \(near notes\)"),
        ({"columns": {"speaker": "notes"}}, "give speaker, which t.csv has itself"),
        ({"constants": {"speaker": "1"}}, "give speaker, which t.csv has itself"),
        ({"constants": {"langauge": "de"}}, r"langauge \(near language\)"),
        ({"constants": {"valence": "much"}}, "'valence' in t.csv holds 'much'"),
    ],
)
def test_a_setting_that_does_not_fit_the_table_is_named_with_what_is_near(
    tmp_path, settings, message
):
    with pytest.raises(UserError, match=message):
        read(
            tmp_path,
            "path,emotion,speaker,notes\na.wav,joy,1,hm\n",
            **{"columns": {"label": "emotion"}, "ignore": ["notes"], **settings},
        )


def test_your_own_counts_are_held_to(tmp_path):
    text = "path,label\na.wav,joy\nb.wav,fear\n"
    assert len(read(tmp_path, text, counts={"joy": 1, "fear": 1})) == 2
    with pytest.raises(UserError, match=r"fear: 1, expected 0, joy: 1, expected 2, rage: 0"):
        read(tmp_path, text, counts={"joy": 2, "rage": 1})


def test_labels_alone_are_a_corpus_where_the_study_says_that_there_is_no_audio(tmp_path):
    """Posteriors of others come with labels; the recordings stay where they were made."""
    text = "utterance_id,label,test_fold\na,joy,1\nb,fear,2\n"
    rows = read(tmp_path, text, audio=None)
    assert rows["utterance_id"].tolist() == ["mine/a", "mine/b"]
    assert rows["path"].isna().all() and rows["test_fold"].tolist() == ["1", "2"]
    with pytest.raises(UserError, match="lacks the columns path and text"):
        read(tmp_path, text)
    named = read(tmp_path, "path,label\n/corpora/a.wav,joy\n", audio=None)
    assert named["utterance_id"].tolist() == ["mine//corpora/a.wav"] and named["path"].isna().all()
    with pytest.raises(UserError, match="lacks the columns path and utterance_id"):
        read(tmp_path, "label,text\njoy,hello\n", audio=None)


def test_decimal_commas_may_have_an_exponent(tmp_path):
    rows = read(tmp_path, "path;label;valence\na.wav;joy;1,5e-05\nb.wav;joy;0,5\n")
    assert rows["valence"].tolist() == [1.5e-05, 0.5]
