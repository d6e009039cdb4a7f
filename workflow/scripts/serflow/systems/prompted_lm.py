"""The `prompted_lm` family: a causal language model that is asked for the emotion's word.

THAU-UPM's text system (EmoSPeech 2024, section 3.1): Gemma with LoRA, trained to answer a prompt
with the label; or any model of transformers, also without training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from serflow.config.families.prompted_lm import PromptedLmConfig
from serflow.config.families.training import TrainingSettings
from serflow.context import Context
from serflow.nets import weights
from serflow.nets.adaptation import Lora
from serflow.nets.label_tokens import LabelTokenNet, Scorer
from serflow.nets.prompts import Prompts
from serflow.systems import saved
from serflow.systems.interface import Examples, Predicted
from serflow.systems.text_inputs import TokenInputs
from serflow.targets import Targets
from serflow.training.fit import Fitted, fit_network
from serflow.training.inference import outputs
from serflow.training.interface import Dev
from serflow.training.setup import device, seed_everything, uses_bf16


class PromptedLm:
    """See `serflow.systems.interface.System`.

    Parameters
    ----------
    settings : PromptedLmConfig
    context : Context
    """

    train_prior_: NDArray[np.float64]
    facts_: dict[str, Any]

    def __init__(self, settings: PromptedLmConfig, context: Context) -> None:
        self.settings = settings
        self.context = context
        self.bf16 = uses_bf16(settings.training or TrainingSettings())

    def fit(self, train: Examples, dev: Examples | None = None) -> PromptedLm:
        """Train on the labelled rows, or nothing at all in zero-shot."""
        seed_everything(self.context)
        self._build(self.settings.model)
        inputs, shortened = self._inputs(train)
        if self.settings.training is None:
            fitted = self._untrained()
        else:
            fitted = self._trained(inputs, train, dev)
        self.train_prior_ = fitted.prior
        self.facts_ = fitted.facts | {
            "label_tokens": dict(zip(self.context.classes, self.labels_, strict=True)),
            "empty_texts": sum(not text.strip() for text in train.texts),
            "shortened_texts": shortened,
        }
        return self

    def predict(self, examples: Examples) -> Predicted:
        """Posteriors; an empty transcript is a valid input."""
        if not len(examples):
            return Predicted(np.empty((0, len(self.context.classes))))
        inputs, _ = self._inputs(examples)
        return Predicted(self._posteriors(inputs))

    def save(self, folder: Path) -> None:
        """Write the trained tensors, and the tokenizer with its template."""
        saved.write_record(
            folder, self.settings.model_dump(mode="json"), self.context, self.train_prior_
        )
        weights.save_trained(self.net_, folder / saved.WEIGHTS)
        self.prompts_.save(folder)

    def _build(self, tokenizer: str) -> None:
        settings = self.settings
        self.prompts_ = Prompts(tokenizer, settings.prompt, settings.plain_template)
        self.labels_ = self.prompts_.labels(settings.words_of(list(self.context.classes)))
        # Frozen weights are only read, so half the memory is enough where bfloat16 is in use; what
        # LoRA trains stays in float32.
        light = settings.adaptation != "full" and self.bf16
        self.net_ = LabelTokenNet(
            settings.model,
            self.labels_,
            adaptation=settings.adaptation,
            lora=Lora(**settings.lora.model_dump()) if settings.lora else None,
            gradient_checkpointing=bool(
                settings.training and settings.training.gradient_checkpointing
            ),
            dtype=torch.bfloat16 if light else torch.float32,
            quantised=settings.quantisation == "nf4",
            compile=settings.compile,
        ).to(device())

    def _trained(self, inputs: TokenInputs, train: Examples, dev: Examples | None) -> Fitted:
        settings = self.settings.training
        on_dev = None
        if dev is not None and len(dev) and settings.select == "best":
            dev_inputs, _ = self._inputs(dev)
            on_dev = Dev(lambda: self._posteriors(dev_inputs), self._targets(dev))
        # Section 3.1 predicts the next token among all; section 3.3 extracts "the final logits of
        # the LLM that correspond to each emotion token", which is `loss: classes`.
        learnt = self._targets(train, elsewhere=self.settings.loss == "vocabulary")
        return fit_network(self.net_, inputs, learnt, settings, self.context, on_dev)

    def _untrained(self) -> Fitted:
        trainable, total = weights.parameter_counts(self.net_)
        facts = {"zero_shot": True, "trainable_parameters": trainable, "total_parameters": total}
        # No label was seen, so no class is more frequent than another to the model, as far as the
        # study goes; what its pretraining makes of the words is unknown.
        n = len(self.context.classes)
        return Fitted(np.full(n, 1 / n), facts)

    def _targets(self, examples: Examples, elsewhere: bool = False) -> Targets:
        none = np.empty((len(examples), 0))
        return Targets(examples.labels, len(self.context.classes), none, elsewhere)

    def _inputs(self, examples: Examples) -> tuple[TokenInputs, int]:
        limit = min(self.settings.max_tokens, self.net_.room or self.settings.max_tokens)
        rows, shortened = self.prompts_(list(examples.texts), limit)
        return TokenInputs(rows, self.prompts_.pad_id, limit), shortened

    def _posteriors(self, inputs: TokenInputs) -> NDArray[np.float64]:
        found = outputs(
            self.net_, Scorer(self.net_), inputs, self.settings.prediction_batch, self.bf16
        )
        return log_softmax(found[:, :-1], axis=1)


def build(settings: dict[str, Any], context: Context) -> PromptedLm:
    """Build an untrained system from the settings of a study."""
    return PromptedLm(
        PromptedLmConfig.model_validate({"family": "prompted_lm"} | settings), context
    )


def load(settings: dict[str, Any], context: Context, folder: Path) -> PromptedLm:
    """The system that `save` wrote."""
    system = build(settings, context)
    seed_everything(context)
    system._build(str(folder))
    weights.load_trained(system.net_, folder / saved.WEIGHTS)
    return system
