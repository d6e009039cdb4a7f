"""Settings of the `functionals` family: acoustic functionals and a scikit-learn classifier."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serflow.config.grids import System
from serflow.config.resources import CpuClass


class FunctionalsConfig(System):
    """Utterance-level acoustic functionals, standardised inside each fold, and one classifier."""

    inputs: ClassVar[tuple[str, ...]] = ("functionals",)
    predicts: ClassVar[str] = "categories"

    family: Literal["functionals"]
    classifier: Literal["svm", "logistic_regression", "lda"] = Field(
        "svm", description="The classifier; its grid is searched on the training speakers."
    )
    inner_folds: Annotated[int, Field(ge=2)] = Field(
        5, description="Speaker-disjoint folds of the training rows that choose hyper-parameters."
    )
    resources: CpuClass = "cpu-small"

    def models(self) -> tuple[str, ...]:
        """Names of the pretrained models that training loads."""
        return ()
