"""Settings of the `given` family: posteriors that other programs made, from files."""

from __future__ import annotations

from pathlib import PurePath
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from serflow.config.grids import System

TABLES, ARRAYS = (".csv", ".tsv", ".parquet"), (".npy", ".npz")


class GivenConfig(System):
    """One file with a row an utterance, of the dev and test rows of every fold."""

    inputs: ClassVar[tuple[str, ...]] = ()
    predicts: ClassVar[str] = "categories"
    resources: ClassVar[str] = "cpu-small"

    family: Literal["given"]
    file: str = Field(
        description="CSV, TSV, Parquet, .npy or .npz; relative to the repository. '{seed}' in it "
        "stands for each of the study's seeds.",
    )
    values: Literal["probabilities", "log_probabilities", "logits"] = Field(
        description="What the columns hold; logarithms are natural ones."
    )
    train_prior: Literal["uniform", "from_train_rows"] | dict[str, float] = Field(
        description="The class prior that the models were effectively trained with. 'uniform': class "
        "weights or balanced sampling made all classes equal; 'from_train_rows': neither, so each "
        "fold's training rows say it; or a probability for each class."
    )
    columns: dict[str, str] = Field(
        {}, description="Class -> its column in the file, where that is not the class's name."
    )
    id_column: str = Field("utterance_id", description="The column of the utterances' ids.")
    fold_column: str | None = Field(
        None,
        description="The column that says which fold's model a row is of; needed where one utterance "
        "is predicted in several folds, as dev and as test row.",
    )
    ignore: list[str] = Field([], description="Columns of the file that the study does without.")
    extra: Literal["refuse", "ignore"] = Field(
        "refuse", description="What rows of no utterance of the study do to the run."
    )
    order: list[str] | None = Field(
        None, description="Of a NumPy file: the names of its columns, in their order."
    )
    ids: str | None = Field(
        None,
        description="Of a NumPy file: the ids of its rows. Beside .npy a text file with one id a "
        "line, or a table with `id_column` (and `fold_column`); in .npz the name of an array.",
    )
    array: str | None = Field(None, description="Of a .npz file: the name of the array of values.")

    @model_validator(mode="after")
    def _fits_the_format(self) -> GivenConfig:
        suffix = PurePath(self.file).suffix.lower()
        if suffix not in TABLES + ARRAYS:
            raise ValueError(f"file is {self.file!r}; expected one of {', '.join(TABLES + ARRAYS)}")
        needed = {".npy": ["order", "ids"], ".npz": ["order", "ids", "array"]}.get(suffix, [])
        for name in ("order", "ids", "array"):
            there = getattr(self, name) is not None
            if there and name not in needed:
                raise ValueError(f"{name} is given, but a {suffix} file has no use for it")
            if not there and name in needed:
                what = GivenConfig.model_fields[name].description
                raise ValueError(f"{name} is missing, which a {suffix} file needs. {what}")
        if self.order and len(set(self.order)) < len(self.order):
            raise ValueError(f"order names a column twice: {self.order}")
        if suffix == ".npz" and self.fold_column:
            raise ValueError(
                "fold_column: a .npz file has no columns; take .npy and a table of ids"
            )
        if self.grid is not None:
            raise ValueError("grid: nothing is trained here, so there is nothing to choose")
        return self

    def check_classes(self, classes: list[str]) -> None:
        """Raise ValueError where the study's classes are others than these settings name."""
        strange = [label for label in self.columns if label not in classes]
        if strange:
            raise ValueError(f"columns names {strange[0]!r}, which is not one of the classes")
        lost = [x for x in (self.columns.get(c, c) for c in classes) if x not in (self.order or x)]
        if self.order and lost:
            raise ValueError(f"order lacks {lost[0]!r}, which one of the classes needs")
        if isinstance(self.train_prior, dict):
            total = sum(self.train_prior.values())
            if set(self.train_prior) != set(classes):
                raise ValueError("train_prior must name exactly the study's classes")
            # Not `>`: NaN compares false.
            if not (abs(total - 1) <= 1e-6 and min(self.train_prior.values()) >= 0):
                raise ValueError(f"train_prior must be non-negative and sum to 1, not {total:g}")

    def file_of(self, seed: int | str) -> str:
        """The file of one seed."""
        return self.file.replace("{seed}", str(seed))

    def ids_of(self, seed: int | str) -> str | None:
        """The file of ids beside it, if it has one."""
        if self.ids is None or self.array is not None:
            return None
        return self.ids.replace("{seed}", str(seed))

    def models(self) -> tuple[str, ...]:
        """Names of the pretrained models that training loads."""
        return ()
