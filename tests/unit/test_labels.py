"""Labels: every corpus label is mapped, kept or dropped by the study's word, never silently."""

from __future__ import annotations

import pandas as pd
import pytest

from serflow.errors import UserError
from serflow.labels import UNLABELLED, apply_labels, keep_rows


def rows(*labels):
    ids = [f"u{i}" for i in range(len(labels))]
    return pd.DataFrame({"utterance_id": ids, "label": None, "label_raw": labels})


def test_labels_are_mapped_kept_or_dropped_and_the_dropped_are_counted():
    labelled, dropped = apply_labels(
        rows("exc", "neutral", "hap", "xxx", "xxx"),
        ["neutral", "happy"],
        {"exc": "happy", "hap": "happy"},
        ["xxx", "oth"],
    )
    assert list(labelled["label"]) == ["happy", "neutral", "happy"]
    assert list(labelled["label_raw"]) == ["exc", "neutral", "hap"]
    assert list(labelled["utterance_id"]) == ["u0", "u1", "u2"]
    assert dropped == {"xxx": 2, "oth": 0}


def test_a_label_nobody_spoke_for_is_named_with_its_count_and_the_nearest_class():
    with pytest.raises(UserError) as caught:
        apply_labels(rows("happy", "happyness", "happyness", "ang"), ["happy"], {}, [])
    message = str(caught.value)
    assert "happyness (2 of 4 utterances; did you mean 'happy'?)" in message
    assert "ang (1 of 4 utterances)" in message
    assert "labels.map or to labels.drop" in message


def test_a_mapping_to_what_is_no_class_is_an_error():
    with pytest.raises(UserError, match="exc -> hapy; did you mean 'happy'"):
        apply_labels(rows("happy", "exc"), ["happy"], {"exc": "hapy"}, [])


def test_a_label_cannot_be_mapped_and_dropped():
    with pytest.raises(UserError, match="both name exc"):
        apply_labels(rows("happy", "exc"), ["happy"], {"exc": "happy"}, ["exc"])


def test_a_class_without_a_single_utterance_is_an_error():
    # A misspelt class would otherwise be a row of zeros in every table.
    with pytest.raises(UserError, match="no utterance has class fear; the corpora's labels are"):
        apply_labels(rows("happy", "afraid"), ["happy", "fear"], {}, ["afraid"])


def test_the_given_table_is_not_changed():
    given = rows("happy")
    apply_labels(given, ["happy"], {}, [])
    assert given["label"].isna().all()


def test_utterances_without_a_label_stop_the_run_unless_the_study_lets_them_go():
    # The hidden labels of Test3 and of EmoSPeech's test.csv.
    table = rows("happy", None, None)
    with pytest.raises(UserError, match="2 of 3 utterances have no label: u1, u2"):
        apply_labels(table, ["happy"], {}, [])
    labelled, dropped = apply_labels(table, ["happy"], {}, [], "drop")
    assert list(labelled["utterance_id"]) == ["u0"]
    assert dropped == {UNLABELLED: 2}


def styled(*styles, corpus="iemocap"):
    ids = [f"{corpus}/{i}" for i in range(len(styles))]
    return pd.DataFrame({"utterance_id": ids, "corpus": corpus, "style": styles})


def test_a_study_of_improvised_speech_counts_the_scripted_utterances_that_it_leaves_out():
    table = pd.concat([styled("improvised", "scripted", "scripted"), styled(None, corpus="savee")])
    kept, dropped = keep_rows(table, {"style": ["improvised"]})
    assert list(kept["utterance_id"]) == ["iemocap/0", "savee/0"], "savee has no styles at all"
    assert dropped == {"style scripted": 2}


def test_a_misspelt_value_would_leave_nothing_and_is_named():
    with pytest.raises(UserError, match=r"no utterance has improvized; there are improvised"):
        keep_rows(styled("improvised"), {"style": ["improvized"]})


def test_an_utterance_without_the_value_is_not_dropped_silently():
    with pytest.raises(UserError, match="1 utterances have no style: iemocap/1"):
        keep_rows(styled("improvised", None), {"style": ["improvised"]})
