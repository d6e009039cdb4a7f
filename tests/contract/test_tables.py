"""The tables between the stages refuse what would go wrong hours later."""

import numpy as np
import pandas as pd
import pytest

from serflow.alignment import stack
from serflow.errors import UserError
from serflow.files import atomic
from serflow.posteriors import Posteriors, concatenate, read_posteriors
from serflow.tables import FOLDS, POSTERIORS, TRANSCRIPTS


def transcripts(**changes):
    frame = pd.DataFrame(
        {
            "utterance_id": ["c/ä 1", "c/2"],
            "text": ["hello", ""],
            "status": ["ok", "silence"],
            "note": [None, "-80 dBFS"],
            "asr": ["canary", "canary"],
        }
    )
    return frame.assign(**changes)


def posteriors(ids=("a", "b", "c"), fold="0", **changes):
    values = {
        "rows": pd.DataFrame(
            {
                "utterance_id": list(ids),
                "system": "s",
                "fold": fold,
                "role": "test",
                "label": "happy",
            }
        ),
        "log_proba": np.log(np.tile([0.25, 0.75], (len(ids), 1))),
        "classes": ("happy", "sad"),
        "priors": {fold: np.array([0.3, 0.7])},
        "seed": 1,
        "system_digest": "d",
        **changes,
    }
    return Posteriors(**values)


def test_a_table_survives_the_round_trip(tmp_path):
    path = tmp_path / "with space" / "t.parquet"
    TRANSCRIPTS.write(transcripts(), path, {"model": "canary-ä"})
    frame, metadata = TRANSCRIPTS.read_with_metadata(path)
    assert frame["text"].tolist() == ["hello", ""]
    assert metadata == {"model": "canary-ä"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"utterance_id": ["x", "x"]}, "must be unique.*x"),
        ({"utterance_id": ["x", None]}, "'utterance_id' is missing in 1 rows"),
        ({"status": ["ok", "fine"]}, "must be one of ok.*found fine in c/2"),
        ({"text": ["hello", None]}, "'text' is missing in 1 rows: c/2"),
        ({"extra": [1, 2]}, "unexpected: extra"),
        ({"text": [1.5, 2.5]}, "transcripts"),
    ],
)
def test_a_bad_row_is_named_on_write(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        TRANSCRIPTS.write(transcripts(**changes), tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir()), "nothing half-written may stay"


def test_a_table_of_another_stage_is_refused_on_read(tmp_path):
    TRANSCRIPTS.write(transcripts(), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="columns missing: fold, role"):
        FOLDS.read(tmp_path / "t.parquet")


def test_a_truncated_table_is_an_error_and_not_a_traceback(tmp_path):
    TRANSCRIPTS.write(transcripts(), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot read table 'transcripts'"):
        TRANSCRIPTS.read(tmp_path / "t.parquet")


def test_a_crash_while_writing_leaves_no_final_name(tmp_path):
    with pytest.raises(RuntimeError), atomic(tmp_path / "out.txt") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_posteriors_keep_class_order_prior_seed_and_digest(tmp_path):
    posteriors().write(tmp_path / "p.parquet")
    again = read_posteriors(tmp_path / "p.parquet")
    assert again.classes == ("happy", "sad")
    assert again.seed == 1
    assert again.system_digest == "d"
    np.testing.assert_array_equal(again.log_proba, posteriors().log_proba)
    np.testing.assert_array_equal(again.priors["0"], [0.3, 0.7])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_diverged_system_is_named_before_it_reaches_a_table(tmp_path, value):
    log_proba = posteriors().log_proba.copy()
    log_proba[1] = value
    with pytest.raises(UserError, match=r"1 rows.*: b\. The system diverged"):
        posteriors(log_proba=log_proba).write(tmp_path / "p.parquet")


def test_systems_join_by_utterance_and_never_by_position():
    shuffled = posteriors(ids=("c", "a", "b"))
    shuffled.log_proba[0] = np.log([0.9, 0.1])
    rows, stacked, filled = stack({"one": posteriors(), "two": shuffled})
    assert rows["utterance_id"].tolist() == ["a", "b", "c"]
    assert not filled
    np.testing.assert_allclose(np.exp(stacked[1, 2]), [0.9, 0.1])


def test_a_system_that_misses_utterances_is_refused_with_their_names():
    with pytest.raises(UserError, match=r"do not cover the same utterances.*'c'"):
        stack({"one": posteriors(), "two": posteriors(ids=("a", "b"))})


def test_folds_join_into_one_table_with_a_prior_each():
    joined = concatenate([posteriors(), posteriors(ids=("d",), fold="1")])
    assert joined.rows["fold"].tolist() == ["0", "0", "0", "1"]
    assert set(joined.priors) == {"0", "1"}
    POSTERIORS.check(joined.rows, "memory")
