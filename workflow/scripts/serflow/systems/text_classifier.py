"""The `text_classifier` family: a transformers sequence classifier over transcripts.

TalTech's text models (Odyssey 2024, section 3.2): LLaMA with LoRA, RoBERTa in full.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serflow.batching import Draw
from serflow.config.families.text_classifier import TextClassifierConfig
from serflow.context import Context
from serflow.nets import weights
from serflow.nets.adaptation import Lora
from serflow.nets.text import TextNet, Tokens
from serflow.systems import saved
from serflow.systems.interface import Examples, Predicted
from serflow.systems.outputs import Columns
from serflow.systems.text_inputs import TokenInputs
from serflow.training.fit import fit_network
from serflow.training.inference import outputs
from serflow.training.interface import Dev
from serflow.training.setup import device, seed_everything, uses_bf16


class TextClassifier:
    """See `serflow.systems.interface.System`.

    Parameters
    ----------
    settings : TextClassifierConfig
    context : Context
    """

    train_prior_: NDArray[np.float64]
    facts_: dict[str, Any]

    def __init__(self, settings: TextClassifierConfig, context: Context) -> None:
        self.settings = settings
        self.context = context
        self.columns = Columns(settings.predicts, context)

    def fit(self, train: Examples, dev: Examples | None = None) -> TextClassifier:
        """Train on the labelled rows; dev rows choose the epoch if the settings say so."""
        seed_everything(self.context)
        self._build()
        inputs = self._inputs(train)
        on_dev = None
        if dev is not None and len(dev) and self.settings.training.select == "best":
            dev_inputs = self._inputs(dev)
            on_dev = Dev(lambda: self._score(dev_inputs), self.columns.targets(dev))
        learnt = self.columns.targets(train)
        fitted = fit_network(
            self.net_, inputs, learnt, self.settings.training, self.context, on_dev
        )
        self.train_prior_ = fitted.prior
        rated = {"unrated_utterances": learnt.unrated} if learnt.n_attributes else {}
        self.facts_ = (
            fitted.facts
            | rated
            | {
                "empty_texts": sum(not text.strip() for text in train.texts),
                "texts_at_max_tokens": int(
                    (
                        inputs.lengths([Draw(0, i, i) for i in range(len(train))])
                        >= self.tokens_.max_tokens
                    ).sum()
                ),
            }
        )
        return self

    def predict(self, examples: Examples) -> Predicted:
        """Posteriors and attributes; an empty transcript is a valid input."""
        if not len(examples):
            return self.columns.predicted(np.empty((0, len(self.columns))))
        return self.columns.predicted(self._score(self._inputs(examples)))

    def save(self, folder: Path) -> None:
        """Write the trained tensors, and the tokenizer."""
        saved.write_record(
            folder, self.settings.model_dump(mode="json"), self.context, self.train_prior_
        )
        weights.save_trained(self.net_, folder / saved.WEIGHTS)
        self.tokens_.save(folder)

    def _build(self) -> None:
        settings = self.settings
        # Frozen weights are only read, so half the memory is enough where bfloat16 is in use; what
        # is trained stays in float32.
        light = settings.adaptation != "full" and uses_bf16(settings.training)
        self.net_ = TextNet(
            settings.model,
            len(self.columns),
            adaptation=settings.adaptation,
            lora=Lora(**settings.lora.model_dump()) if settings.lora else None,
            gradient_checkpointing=settings.training.gradient_checkpointing,
            dtype=torch.bfloat16 if light else torch.float32,
            quantised=settings.quantisation == "nf4",
            compile=settings.compile,
        ).to(device())
        limit = min(settings.max_tokens, self.net_.max_positions or settings.max_tokens)
        self.tokens_ = Tokens(settings.model, limit)

    def _inputs(self, examples: Examples) -> TokenInputs:
        return TokenInputs(
            self.tokens_(list(examples.texts)), self.tokens_.pad_id, self.tokens_.max_tokens
        )

    def _score(self, inputs: TokenInputs) -> NDArray[np.float64]:
        settings = self.settings.training
        found = outputs(self.net_, self.net_, inputs, settings.batch_size, uses_bf16(settings))
        return self.columns.normalised(found)


def build(settings: dict[str, Any], context: Context) -> TextClassifier:
    """Build an untrained system from the settings of a study."""
    return TextClassifier(
        TextClassifierConfig.model_validate({"family": "text_classifier"} | settings), context
    )


def load(settings: dict[str, Any], context: Context, folder: Path) -> TextClassifier:
    """The system that `save` wrote."""
    system = build(settings, context)
    seed_everything(context)
    system._build()
    weights.load_trained(system.net_, folder / saved.WEIGHTS)
    system.tokens_ = Tokens(str(folder), system.tokens_.max_tokens)
    return system
