"""Grids of hyper-parameters: a system's block, once for each combination of some of its values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from serflow.config.base import Strict

Scalar = bool | int | float | str
# Between a system's name and the values of one of its points; no name of a study holds it.
POINT = "--"


class GridSettings(Strict):
    """Values to try, and what chooses among them."""

    over: Annotated[
        dict[str, Annotated[list[Scalar], Field(min_length=1)]], Field(min_length=1)
    ] = Field(description="Key of the system's block, as lora.rank -> values.")
    choose_on: Literal["dev", "cross_validation"] = Field(
        "dev",
        description="dev: the dev rows of each fold choose its point. cross_validation: the mean over "
        "the folds' test rows chooses one for all; then only rows outside of the folds test it.",
    )
    objective: Literal["macro_f1", "uar", "wa"] = Field(
        "macro_f1", description="What is to be high; equally good points: the first one."
    )

    @model_validator(mode="after")
    def _each_once(self) -> GridSettings:
        for key, values in self.over.items():
            if len({(type(value), value) for value in values}) < len(values):
                raise ValueError(f"over.{key} holds a value twice: {values}")
        names = [name_of("x", point) for point in self.points()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two points of over would have one name, {twice.partition(POINT)[2]}")
        return self

    def points(self) -> list[dict[str, Scalar]]:
        """Every combination, the last key's values changing fastest."""
        combinations = itertools.product(*self.over.values())
        return [dict(zip(self.over, values, strict=True)) for values in combinations]


class System(Strict):
    """What all system families share."""

    grid: GridSettings | None = Field(
        None, description="Train the system with several settings, and let rows choose."
    )


def name_of(system: str, point: Mapping[str, Scalar]) -> str:
    """Name of a point, by its values alone: one more leaves the names of the others as they are.

    Examples
    --------
    >>> name_of("gemma", {"lora.rank": 16, "training.learning_rate": 1e-4})
    'gemma--rank-16--learning_rate-0_0001'
    """
    parts = [f"{key.rpartition('.')[2]}-{_slug(value)}" for key, value in point.items()]
    return POINT.join([system, *parts])


def system_of(point: str) -> str:
    """Name of the system that a point belongs to; of another system, its own."""
    return point.partition(POINT)[0]


def placed(block: Mapping[str, Any], point: Mapping[str, Scalar]) -> dict[str, Any]:
    """A system's block with the values of a point, and without the grid.

    Raises
    ------
    KeyError
        The block has no such key.
    """
    placed = {key: value for key, value in block.items() if key != "grid"}
    for path, value in point.items():
        *parents, last = path.split(".")
        inner = placed
        for parent in parents:
            if not isinstance(inner.get(parent), Mapping):
                raise KeyError(path)
            inner[parent] = dict(inner[parent])
            inner = inner[parent]
        if last not in inner or isinstance(inner[last], Mapping):
            raise KeyError(path)
        inner[last] = value
    return placed


def points_of(name: str, system: System) -> dict[str, System]:
    """The systems that a grid stands for, by their names; empty for a system without one.

    Raises
    ------
    ValueError
        A key that the block does not have, or a value that it cannot take.
    """
    if system.grid is None:
        return {}
    found = {}
    block = system.model_dump()
    for point in system.grid.points():
        try:
            found[name_of(name, point)] = type(system).model_validate(placed(block, point))
        except KeyError as error:
            raise ValueError(
                f"systems.{name}.grid.over names {error.args[0]!r}, which is no value of the block; "
                f"there are {', '.join(_keys(block))}"
            ) from None
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise ValueError(
                f"systems.{name}.grid: {point} is no valid setting: {where}: {fault['msg']}"
            ) from None
    return found


def _slug(value: Scalar) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{value:g}" if isinstance(value, float) else str(value))


def _keys(block: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in block.items():
        if isinstance(value, Mapping):
            found += _keys(value, f"{prefix}{key}.")
        elif not prefix and key in ("grid", "family", "resources", "gpus"):
            continue
        elif not isinstance(value, list):
            found.append(f"{prefix}{key}")
    return found
