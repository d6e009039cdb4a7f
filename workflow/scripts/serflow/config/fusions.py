"""What is done to posteriors: the prior that they are moved to, and late fusions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

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


class CalibrationSettings(Strict):
    """A map of posteriors that makes the references most likely, between raw and rebalanced ones."""

    method: Literal["temperature", "vector", "matrix", "isotonic"] = Field(
        description="'temperature': one for all classes; keeps the prior that posteriors express. "
        "'vector': temperature and a bias for each class. 'matrix': all classes by all, off-diagonal "
        "and biases regularised (ODIR). 'isotonic': one against the rest, monotone."
    )
    fit_on: Literal["dev", "cross_fit"] = Field(description="As of fusions.")


class _Fusion(Strict):
    """What every fusion of posteriors has."""

    systems: Annotated[list[Name], Field(min_length=2)]
    stage: Literal["raw", "calibrated", "rebalanced"] = "rebalanced"
    fit_on: Literal["dev", "cross_fit"] = Field(
        description="'dev': in each fold on its dev rows. 'cross_fit': on the test rows of other "
        "parts: the folds, or where speakers lie in several folds, five parts of whole speakers."
    )
    missing: Literal["error", "prior"] = Field(
        "error",
        description="What becomes of an utterance that a system lacks: the run stops; or that "
        "system says nothing about it, its posteriors there being its prior.",
    )


class InterpolationFusion(_Fusion):
    """Interpolation of posteriors, or of their logarithms, weights from a grid over the simplex."""

    method: Literal["linear_interpolation", "log_linear_interpolation"]
    step: Step | Literal["exact"] = Field(
        0.05,
        description="Of the grid. Beyond three systems it is searched from coarse to fine. 'exact', "
        "for two systems: the best of all weights.",
    )
    objective: Literal["macro_f1", "uar", "nll"] = "macro_f1"

    @model_validator(mode="after")
    def _exact_for_two(self) -> InterpolationFusion:
        if self.step == "exact" and len(self.systems) != 2:
            raise ValueError(f"step 'exact' is for two systems, not {len(self.systems)}")
        return self


class LogisticFusion(_Fusion):
    """Multinomial logistic regression on log-posteriors with an L2 penalty."""

    method: Literal["logistic_regression"]
    C: Annotated[float, Field(gt=0)] | Literal["cross_validated"] = Field(
        1.0,
        description="Inverse strength of the penalty; 'cross_validated': by the likelihood in five "
        "inner folds of the fit rows that split no speaker.",
    )


class BaselineFusion(_Fusion):
    """Unweighted mean of the posteriors, or majority vote: nothing is learnt."""

    method: Literal["mean", "majority"]
    fit_on: Literal["nothing"] = "nothing"


FusionConfig = Annotated[
    InterpolationFusion | LogisticFusion | BaselineFusion, Field(discriminator="method")
]


class AttributeFusion(Strict):
    """Linear interpolation of predicted attributes, each with weights of its own, chosen by CCC."""

    systems: Annotated[list[Name], Field(min_length=2)]
    fit_on: Literal["dev", "cross_fit"]
    step: Step = 0.05
