"""Settings of the `embedding_backend` family: another system's embeddings, classified anew."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serflow.config.grids import System
from serflow.config.resources import CpuClass


class EmbeddingBackendConfig(System):
    """Normalisation, discriminant analysis, and a linear classifier or PLDA on embeddings."""

    inputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    predicts: ClassVar[str] = "categories"

    family: Literal["embedding_backend"]
    embeddings: str = Field(description="The system whose first dense layer gives them.")
    dim: Annotated[int, Field(ge=1)] = Field(
        15, description="Dimensions after the discriminant analysis."
    )
    mode: Literal["whiten", "emotion_x_gender", "clip"] = Field(
        "whiten", description="How more dimensions than classes come about; see serflow.lda."
    )
    normalise_length: bool = Field(True, description="Scale the embeddings to equal length.")
    classifier: Literal["logistic_regression", "plda"] = "logistic_regression"
    C: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Inverse strength of the L2 penalty of the logistic regression."
    )
    prior: Literal["uniform", "empirical"] = Field(
        "uniform", description="Prior of the posteriors; the biases are shifted to it."
    )
    resources: CpuClass = "cpu-small"

    def models(self) -> tuple[str, ...]:
        """Names of the pretrained models that training loads."""
        return ()
