"""The protocols that give every utterance its role, as a study declares them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serflow.config.base import Strict

Group = Literal["speaker", "session", "sentence_id"]
Folds = Annotated[int, Field(ge=2)]
Share = Annotated[float, Field(gt=0, lt=1)]


class NestedDev(Strict):
    """Dev rows drawn from each fold's training rows."""

    fraction: Share = Field(0.1, description="Share of the training rows; with a group, of groups.")
    group: Group | None = Field(
        None, description="What dev rows share with no training row, e.g. speaker."
    )
    stratify: bool = Field(False, description="Keep the classes' shares; not with a group.")


Dev = Literal["none", "next_fold"] | NestedDev


class Protocol(Strict):
    """What all protocols have."""

    dev_per_class: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Keep so many dev rows of each class, at random (Dev_bal: 300)."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Of all that is drawn: shuffles and dev rows.")

    @model_validator(mode="after")
    def _hangs_together(self) -> Protocol:
        dev = getattr(self, "dev", None)
        if self.dev_per_class is not None and dev == "none":
            raise ValueError(
                f"dev_per_class is {self.dev_per_class}, but there are no dev rows (dev: none); "
                "give folds.dev, or remove dev_per_class"
            )
        for where, draw in (("", self), ("dev.", dev)):
            if getattr(draw, "stratify", False) and getattr(draw, "group", None):
                raise ValueError(
                    f"{where}stratify: true cannot be had with {where}group: {draw.group}, as "
                    "groups are drawn whole; remove one of them"
                )
        return self

    def names(self) -> list[str]:
        """Fold names, known before any data is read."""
        return ["0"]


class OfficialFolds(Protocol):
    """The corpus's own train, dev and test split, as the single fold '0'."""

    protocol: Literal["official"]


class RandomSplit(Protocol):
    """One random split into train and test, as the single fold '0'."""

    protocol: Literal["random_split"]
    test: Share = Field(description="Share of the utterances to test on; with a group, of groups.")
    group: Group | None = Field(None, description="What is never on both sides.")
    stratify: bool = Field(False, description="Keep the classes' shares; not with a group.")
    dev: Literal["none"] | NestedDev = "none"


class _Shuffled(Protocol):
    k: Folds = 5
    order: Literal["utterance_id", "position"] = Field(
        "utterance_id",
        description="What the shuffle starts from; 'position' is the corpus's own order, which "
        "reproduces published folds.",
    )
    dev: Dev = Field(
        "none", description="'next_fold': the next fold's test rows are this fold's dev rows."
    )

    def names(self) -> list[str]:
        """Fold names, known before any data is read."""
        return [str(fold) for fold in range(self.k)]


class PlainKFold(_Shuffled):
    """k folds over utterances, shuffled."""

    protocol: Literal["k_fold"]


class StratifiedKFold(_Shuffled):
    """k folds over utterances, shuffled and stratified by class."""

    protocol: Literal["stratified_k_fold"]


class GroupedKFold(_Shuffled):
    """k folds over groups, stratified by class as far as the groups allow."""

    protocol: Literal["grouped_k_fold"]
    group: Group = "speaker"


class OwnFolds(Protocol):
    """The corpus's own folds: its column `test_fold` names the one that tests each utterance."""

    protocol: Literal["own_folds"]
    k: Folds = Field(description="Number of folds; checked against the data.")
    dev: Dev = Field("none", description="'next_fold': the next fold is this fold's dev set.")

    def names(self) -> list[str]:
        """Fold names, known before any data is read."""
        return [str(fold) for fold in range(self.k)]


class LeaveOneGroupOut(Protocol):
    """One fold for each group: leave one speaker, or one session, out."""

    protocol: Literal["leave_one_group_out"]
    group: Group = "speaker"
    groups: Folds = Field(
        description="Number of groups, and so of folds; checked against the data."
    )
    dev: Dev = Field("none", description="'next_fold': the next group is this fold's dev set.")

    def names(self) -> list[str]:
        """Fold names, known before any data is read."""
        return [str(fold) for fold in range(self.groups)]


FoldsConfig = Annotated[
    OfficialFolds
    | OwnFolds
    | RandomSplit
    | PlainKFold
    | StratifiedKFold
    | GroupedKFold
    | LeaveOneGroupOut,
    Field(discriminator="protocol"),
]
