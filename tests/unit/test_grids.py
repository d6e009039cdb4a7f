"""Grids: the points of a block, their names, and which one is taken."""

from __future__ import annotations

import time

import pytest
from pydantic import ValidationError

from serflow.config.families.text_classifier import TextClassifierConfig
from serflow.config.grids import GridSettings, name_of, points_of, system_of
from serflow.config.study import StudyConfig
from serflow.grids import choose

LLAMA = {
    "family": "text_classifier",
    "model": "meta-llama/Llama-2-7b-hf",
    "adaptation": "lora",
    "lora": {"rank": 8, "alpha": 8, "target_modules": ["q_proj"]},
}


def system(**over) -> TextClassifierConfig:
    return TextClassifierConfig.model_validate(LLAMA | {"grid": {"over": over}})


def test_every_combination_is_a_system_of_its_own_and_nothing_else_changes():
    found = points_of("llama", system(**{"lora.rank": [16, 32], "training.learning_rate": [1e-4]}))
    assert list(found) == [
        "llama--rank-16--learning_rate-0_0001",
        "llama--rank-32--learning_rate-0_0001",
    ]
    point = found["llama--rank-32--learning_rate-0_0001"]
    plain = TextClassifierConfig.model_validate(LLAMA)
    assert point.lora.rank == 32
    assert point.training.learning_rate == 1e-4
    assert point.grid is None
    changed = point.model_dump() | {
        "lora": plain.lora.model_dump(),
        "training": plain.training.model_dump(),
    }
    assert changed == plain.model_dump()
    assert system_of("llama--rank-16") == system_of("llama") == "llama"


def test_a_name_depends_on_the_point_alone():
    """Were it a number, one more value would rename, and train anew, those after it."""
    first = points_of("x", system(**{"lora.rank": [16, 64]}))
    more = points_of("x", system(**{"lora.rank": [8, 16, 32, 64]}))
    assert set(first) < set(more)
    assert all(first[name] == more[name] for name in first)
    assert name_of("x", {"a.b": "Q/w e.r"}) == "x--b-Q_w_e_r"


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"lora.rnk": [1]}, r"grid.over names 'lora.rnk', which is no value .* lora.rank"),
        ({"lora": [1]}, "grid.over names 'lora'"),
        ({"lora.rank": [0]}, r"\{'lora.rank': 0\} is no valid setting: lora.rank"),
        ({"adaptation": ["full"]}, "is no valid setting"),
    ],
)
def test_a_point_that_cannot_be_is_named(over, message):
    with pytest.raises(ValueError, match=message):
        points_of("llama", system(**over))


@pytest.mark.parametrize(
    "over", [{}, {"lora.rank": []}, {"lora.rank": [8, 8]}, {"a": ["x.y", "x_y"]}]
)
def test_an_empty_or_ambiguous_grid_is_refused(over):
    with pytest.raises(ValidationError):
        GridSettings(over=over)


def study(grid: dict, **changes) -> dict:
    return {
        "title": "t",
        "classes": ["a", "b"],
        "corpora": {"demo": {"source": "demo"}},
        "folds": {"protocol": "stratified_k_fold", "k": 5, "seed": 42},
        "systems": {"svm": {"family": "functionals", "grid": grid}},
    } | changes


def test_dev_rows_that_are_not_there_cannot_choose():
    with pytest.raises(ValidationError, match="folds have no dev rows to choose on"):
        StudyConfig.model_validate(study({"over": {"classifier": ["svm", "lda"]}}))
    with pytest.raises(ValidationError, match="is kept for the points of grids"):
        StudyConfig.model_validate(study({}, systems={"a--b": {"family": "functionals"}}))


def test_twenty_five_points_are_five_by_five_in_no_time():
    over = {"lora.rank": [16, 32, 64, 128, 256], "lora.alpha": [16, 32, 64, 128, 256]}
    start = time.perf_counter()
    assert len(points_of("gemma", system(**over))) == 25
    assert time.perf_counter() - start < 0.5


SCORES = {
    "a": {"0": 0.9, "1": 0.1, "2": 0.5},
    "b": {"0": 0.6, "1": 0.6, "2": 0.5},
    "c": {"0": 0.5, "1": 0.7, "2": 0.4},
}


def test_dev_rows_choose_for_their_own_fold_and_test_rows_for_all_together():
    on_dev = choose(SCORES, "dev")
    assert on_dev["folds"] == {"0": "a", "1": "c", "2": "a"}, "of equals the first"
    together = choose(SCORES, "cross_validation")
    assert together["folds"] == dict.fromkeys("012", "b")
    assert on_dev["final"] == together["final"] == "b"
    assert together["mean"]["b"] == pytest.approx(17 / 30)
