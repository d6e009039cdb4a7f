"""What is done to posteriors: the prior that they are moved to, and late fusions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from serflow.config.base import Name, Strict


def _divides_one(step: float) -> float:
    if abs(round(1 / step) * step - 1) > 1e-9:
        raise ValueError(f"step is {step}; expected 1 divided by a whole number, as 0.05")
    return step


# Of a grid of weights.
Step = Annotated[float, Field(gt=0, le=0.5), AfterValidator(_divides_one)]


class PriorSettings(Strict):
    """The class prior that posteriors are rebalanced to."""

    target: Literal["uniform", "em", "bbse"] | dict[str, float] = Field(
        "uniform",
        description="Class -> probability, uniform, or estimated anew on the test rows of each fold "
        "without their labels: em from the posteriors alone, bbse with the confusions of dev rows.",
    )


class InterpolationFusion(Strict):
    """Interpolation of posteriors, or of their logarithms, weights from a grid over the simplex."""

    method: Literal["linear_interpolation", "log_linear_interpolation"]
    systems: Annotated[list[Name], Field(min_length=2)]
    stage: Literal["raw", "rebalanced"] = "rebalanced"
    fit_on: Literal["dev", "cross_fit"]
    step: Step = 0.05
    objective: Literal["macro_f1", "uar", "nll"] = "macro_f1"


class LogisticFusion(Strict):
    """Multinomial logistic regression on log-posteriors with an L2 penalty."""

    method: Literal["logistic_regression"]
    systems: Annotated[list[Name], Field(min_length=2)]
    stage: Literal["raw", "rebalanced"] = "rebalanced"
    fit_on: Literal["dev", "cross_fit"]
    C: Annotated[float, Field(gt=0)] = 1.0


FusionConfig = Annotated[InterpolationFusion | LogisticFusion, Field(discriminator="method")]


class AttributeFusion(Strict):
    """Linear interpolation of predicted attributes, each with weights of its own, chosen by CCC."""

    systems: Annotated[list[Name], Field(min_length=2)]
    fit_on: Literal["dev", "cross_fit"]
    step: Step = 0.05
