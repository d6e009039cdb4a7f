"""The `embedding_backend` family: another system's embeddings, classified anew in seconds.

TalTech's audio system (Odyssey 2024, section 3.1): the fine-tuned network is only an extractor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serflow.config.families.embedding_backend import EmbeddingBackendConfig
from serflow.context import Context
from serflow.embedding_backend import EmbeddingBackend
from serflow.errors import UserError
from serflow.systems import saved
from serflow.systems.interface import Examples, Predicted


class BackendSystem:
    """See `serflow.systems.interface.System`.

    Parameters
    ----------
    settings : EmbeddingBackendConfig
    context : Context
    """

    train_prior_: NDArray[np.float64]
    facts_: dict[str, Any]

    def __init__(self, settings: EmbeddingBackendConfig, context: Context) -> None:
        self.settings = settings
        self.context = context

    def fit(self, train: Examples, dev: Examples | None = None) -> BackendSystem:
        """Fit on the training rows of the scored classes; dev rows are not looked at."""
        settings = self.settings
        backend = EmbeddingBackend(
            n_classes=self.context.n_scored,
            dim=settings.dim,
            mode=settings.mode,
            normalise_length=settings.normalise_length,
            classifier=settings.classifier,
            C=settings.C,
            prior=settings.prior,
        )
        genders = train.genders if settings.mode == "emotion_x_gender" else None
        try:
            self.backend_ = backend.fit(train.embeddings, train.labels, gender=genders)
        except ValueError as error:
            raise UserError(
                f"the backend of {settings.embeddings!r} cannot be fitted: {error}"
            ) from None
        self.train_prior_ = backend.prior_
        self.facts_ = {
            "embeddings": settings.embeddings,
            "dimensions": int(backend.discriminants_.dim_),
            "training_rows": int((train.labels < self.context.n_scored).sum()),
        }
        return self

    def predict(self, examples: Examples) -> Predicted:
        """Posteriors of the scored classes."""
        if not len(examples):
            return Predicted(np.empty((0, self.context.n_scored)))
        return Predicted(self.backend_.predict_log_proba(examples.embeddings))

    def save(self, folder: Path) -> None:
        """Write what it is: with the embeddings, fitting anew takes seconds."""
        block = self.settings.model_dump(mode="json")
        saved.write_record(folder, block, self.context, self.train_prior_, facts=self.facts_)


def build(settings: dict[str, Any], context: Context) -> BackendSystem:
    """Build an unfitted system from the settings of a study."""
    return BackendSystem(EmbeddingBackendConfig.model_validate(settings), context)
