"""The strict base of every settings type, and errors that name the key, the nearest one and the file."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serflow.errors import UserError


def _each_once(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError(f"each once, not {values}")
    return values


Count = Annotated[int, Field(ge=1)]

# Names become folder names and Snakemake wildcards: no dots, slashes or spaces.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

# Seeds are folder names and wildcards: not negative.
Seeds = Annotated[
    list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_each_once)
]


class Strict(BaseModel):
    """Settings in which an unknown key is an error that names the nearest valid key."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key", "{message}", {"message": _unknown_key(key, cls.model_fields)}
                    )
        return data


def _unknown_key(key: str, valid: Any) -> str:
    nearest = difflib.get_close_matches(str(key), valid, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"valid keys: {', '.join(valid)}"
    return f"unknown key '{key}'; {hint}"


def validated(kind: type[Strict], data: Any, where: str) -> Any:
    """Validate `data` as `kind`.

    Raises
    ------
    UserError
        Lists every fault with its key path and `where` (the file's name).
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        faults = [
            f"  {_key_path(data, fault) or '(top level)'}: {fault['msg']}{_found(fault)}"
            for fault in error.errors()
        ]
        raise UserError(f"{where} is not valid:\n" + "\n".join(faults)) from None


def _key_path(data: Any, fault: Any) -> str:
    """The keys as they stand in the file, without the names that pydantic gives to alternatives."""
    path = []
    for number, part in enumerate(fault["loc"], start=1):
        if _has(data, part):
            path.append(str(part))
            data = data[part]
        elif fault["type"] == "missing" and number == len(fault["loc"]):
            path.append(str(part))
    return ".".join(path)


def _has(data: Any, part: int | str) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, dict) and part in data


def _found(fault: Any) -> str:
    """What was there instead, where that is short and the message does not say it."""
    value = fault["input"]
    if fault["type"] in ("missing", "value_error", "unknown_key") or isinstance(value, dict | list):
        return ""
    return f"; found {value!r}"
