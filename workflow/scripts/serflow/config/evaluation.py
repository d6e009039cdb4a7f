"""How scores are printed: their intervals, and published values beside them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serflow.config.base import Strict


class IntervalSettings(Strict):
    """Percentile bootstrap of the test rows."""

    resamples: Annotated[int, Field(ge=100)] = 10_000
    unit: Literal["utterance", "speaker"] = "utterance"
    seed: Annotated[int, Field(ge=0)] = 0


class PaperValue(Strict):
    """A published value to print beside ours."""

    system: str
    stage: Literal["raw", "calibrated", "rebalanced", "fused"]
    role: Literal["dev", "test"] = "test"
    metric: Literal[
        "macro_f1", "micro_f1", "uar", "wa", "hard_eer", "recall", "precision", "f1",
        "eer", "ccc", "mean_ccc",
    ]  # fmt: skip
    label: str = Field(
        "", description="The attribute of a ccc; the class of a recall, precision or f1."
    )
    value: float
    source: str
