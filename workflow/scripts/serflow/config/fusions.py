"""What is done to posteriors: the prior that they are moved to, and late fusions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serflow.config.base import Name, Strict


class PriorSettings(Strict):
    """The class prior that posteriors are rebalanced to."""

    target: Literal["uniform"] | dict[str, float] = "uniform"


class InterpolationFusion(Strict):
    """Linear interpolation of posteriors, weights from a grid over the simplex."""

    method: Literal["linear_interpolation"]
    systems: Annotated[list[Name], Field(min_length=2)]
    stage: Literal["raw", "rebalanced"] = "rebalanced"
    fit_on: Literal["dev", "cross_fit"]
    step: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    objective: Literal["macro_f1", "uar", "nll"] = "macro_f1"

    @model_validator(mode="after")
    def _step_divides_one(self) -> InterpolationFusion:
        if abs(round(1 / self.step) * self.step - 1) > 1e-9:
            raise ValueError(f"step is {self.step}; expected 1 divided by a whole number, as 0.05")
        return self


class LogisticFusion(Strict):
    """Multinomial logistic regression on log-posteriors with an L2 penalty."""

    method: Literal["logistic_regression"]
    systems: Annotated[list[Name], Field(min_length=2)]
    stage: Literal["raw", "rebalanced"] = "rebalanced"
    fit_on: Literal["dev", "cross_fit"]
    C: Annotated[float, Field(gt=0)] = 1.0


FusionConfig = Annotated[InterpolationFusion | LogisticFusion, Field(discriminator="method")]
