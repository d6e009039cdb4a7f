"""Settings of the `functionals` family: acoustic functionals and a scikit-learn classifier."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from serflow.config.base import Strict


class FunctionalsConfig(Strict):
    """Utterance-level acoustic functionals, standardised inside each fold, and one classifier."""

    inputs: ClassVar[tuple[str, ...]] = ("functionals",)

    family: Literal["functionals"]
    classifier: Literal["svm", "logistic_regression"] = Field(
        "svm", description="The scikit-learn classifier; its grid is searched on training speakers."
    )
    resources: Literal["cpu"] = "cpu"

    def models(self) -> tuple[str, ...]:
        """Names of the pretrained models that training loads."""
        return ()
