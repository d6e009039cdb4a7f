"""The `speech_classifier` family: a transformers speech encoder with pooling and a head.

TalTech's audio model (Odyssey 2024, section 3.1), HuBERT with a weighted sum of its layers, and their
kin: encoder, adaptation, layers, pooling, head, crops and training are settings.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from serflow.audio import SAMPLE_RATE
from serflow.augmenter import Augmenter
from serflow.config.families.speech_classifier import (
    CropSettings,
    PhaseSettings,
    SpeechClassifierConfig,
)
from serflow.context import Context
from serflow.nets import weights
from serflow.nets.adaptation import Adapters, Lora
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.heads import build_head
from serflow.nets.layers import WeightedSum
from serflow.nets.means import MeansNet
from serflow.nets.pooling import build_pooling
from serflow.nets.speech import SpeechNet, load_head
from serflow.systems import saved
from serflow.systems.interface import Examples, Predicted
from serflow.systems.outputs import Columns
from serflow.systems.speech_inputs import Crops, Means, Spans
from serflow.training.fit import fit_network
from serflow.training.inference import outputs
from serflow.training.interface import Dev, Inputs
from serflow.training.setup import device, seed_everything, uses_bf16


class SpeechClassifier:
    """See `serflow.systems.interface.System`.

    Parameters
    ----------
    settings : SpeechClassifierConfig
    context : Context
    """

    train_prior_: NDArray[np.float64]
    facts_: dict[str, Any]

    def __init__(self, settings: SpeechClassifierConfig, context: Context) -> None:
        self.settings = settings
        self.context = context
        self.columns = Columns(settings.predicts, context)

    def fit(self, train: Examples, dev: Examples | None = None) -> SpeechClassifier:
        """Train on the labelled rows, phase by phase; dev rows choose each one's epoch if asked."""
        seed_everything(self.context)
        self._build()
        if augmentation := self.settings.augmentation:
            self.augmenter_ = Augmenter(augmentation, self.context.sounds, self.context.seed)
        learnt = self.columns.targets(train)
        histories = []
        for number, phase in enumerate(self.settings.phases):
            on_dev = None
            if dev is not None and len(dev) and phase.training.select == "best":
                on_dev = Dev(self._scorer(dev), self.columns.targets(dev))
            net, inputs = self._trained_on(train, phase)
            fitted = fit_network(
                net, inputs, learnt, phase.training, self.context.phase(number), on_dev
            )
            histories.append(fitted.facts)
        self.train_prior_ = fitted.prior
        self.facts_ = histories[-1] | {
            "head_from_checkpoint": ", ".join(self._copied) or "nothing",
            "earlier_phases": histories[:-1],
        }
        if learnt.n_attributes:
            self.facts_["unrated_utterances"] = learnt.unrated
        if self.augmenter_:
            self.facts_["augmentation"] = self.augmenter_.facts(
                len(train), phase.training.batch_size, phase.training.epochs
            )
        return self

    def predict(self, examples: Examples) -> Predicted:
        """Posteriors and attributes; those of a long utterance's chunks are averaged."""
        found = self._scorer(examples)() if len(examples) else np.empty((0, len(self.columns)))
        return self.columns.predicted(found)

    def embed(self, examples: Examples) -> NDArray[np.float64]:
        """Embeddings, shape (n, hidden); those of a long utterance's chunks are averaged."""
        chunks, owners = self._chunks(examples)
        settings = self.settings.training
        found = outputs(
            self.net_,
            self.net_.embed,
            chunks,
            settings.batch_size,
            uses_bf16(settings),
        )
        sums = np.zeros((len(examples), found.shape[1]))
        np.add.at(sums, owners, found)
        return sums / np.bincount(owners)[:, None]

    def save(self, folder: Path) -> None:
        """Write the trained tensors, batch normalisation among them, and the front end's settings."""
        saved.write_record(
            folder, self.settings.model_dump(mode="json"), self.context, self.train_prior_
        )
        weights.save_trained(self.net_, folder / saved.WEIGHTS)
        self.front_end_.save(folder)

    def _scorer(self, examples: Examples) -> Callable[[], NDArray[np.float64]]:
        """Scores the examples by the network as it is when called; inputs are prepared once."""
        if examples.layer_means is None:
            chunks = self._chunks(examples)
            return lambda: self._score(*chunks)
        net, inputs = MeansNet(self.net_.layers, self.net_.head), Means(examples.layer_means)
        size = self.settings.training.batch_size
        return lambda: self.columns.normalised(outputs(net, net, inputs, size))

    def _build(self) -> None:
        settings, head = self.settings, self.settings.head
        encoder = SpeechEncoder(
            settings.model,
            initial=settings.initial,
            adaptation=settings.adaptation,
            lora=Lora(**settings.lora.model_dump()) if settings.lora else None,
            gradient_checkpointing=settings.training.gradient_checkpointing,
            adapters=Adapters(settings.adapters.size) if settings.adapters else None,
            freeze_front_end=settings.freeze_front_end,
            attention=settings.attention,
            full_window=settings.full_window,
            compile=settings.compile,
        )
        pooling = build_pooling(head.pooling, encoder.output_size, head.bottleneck)
        top = build_head(
            head.type,
            pooling.output_size,
            hidden=head.hidden,
            n_classes=self.columns.n_classes,
            n_attributes=self.columns.n_attributes,
            dropout=head.dropout,
        )
        layers = WeightedSum(encoder.depth) if head.layers == "weighted_sum" else None
        net = SpeechNet(encoder, pooling, top, layers)
        self._copied = load_head(net, settings.model) if settings.initial == "pretrained" else []
        self.net_ = net.to(device())
        self.front_end_ = FrontEnd(settings.model)
        self.augmenter_: Augmenter | None = None  # only training needs it, and the sounds

    def _trained_on(self, examples: Examples, phase: PhaseSettings) -> tuple[nn.Module, Inputs]:
        """The part of the network that a phase trains, and what it is given."""
        if examples.layer_means is not None:
            return MeansNet(self.net_.layers, self.net_.head), Means(examples.layer_means)
        spans, crop = _whole(examples), phase.crop
        if crop is None:
            # Too long to train on whole: a chunk of the length that is also scored at once.
            slowest = self.settings.augmentation.slowest() if self.settings.augmentation else 1
            longest = self.settings.max_seconds * slowest
            if all(end <= round(longest * SAMPLE_RATE) for _, _, end in spans):
                return self.net_, Spans(examples.audio, spans, self.front_end_, self.augmenter_)
            crop = CropSettings(min_s=longest, max_s=longest)
        return self.net_, Crops(
            examples.audio,
            spans,
            self.front_end_,
            round(crop.min_s * SAMPLE_RATE),
            round(crop.max_s * SAMPLE_RATE),
            self.context.seed,
            self.augmenter_,
        )

    def _chunks(self, examples: Examples) -> tuple[Spans, NDArray[np.int64]]:
        """Equal chunks of at most max_seconds, and the index of each one's utterance."""
        limit = round(self.settings.max_seconds * SAMPLE_RATE)
        spans, owners = [], []
        for i, (name, _, n) in enumerate(_whole(examples)):
            edges = np.linspace(0, n, max(1, -(-n // limit)) + 1).round().astype(int).tolist()
            spans += [(name, first, end) for first, end in pairwise(edges)]
            owners += [i] * (len(edges) - 1)
        return Spans(examples.audio, spans, self.front_end_), np.array(owners)

    def _score(self, chunks: Spans, owners: NDArray[np.int64]) -> NDArray[np.float64]:
        settings = self.settings.training
        found = outputs(self.net_, self.net_, chunks, settings.batch_size, uses_bf16(settings))
        return self.columns.pooled(self.columns.normalised(found), owners)


def build(settings: dict[str, Any], context: Context) -> SpeechClassifier:
    """Build an untrained system from the settings of a study."""
    return SpeechClassifier(
        SpeechClassifierConfig.model_validate({"family": "speech_classifier"} | settings), context
    )


def load(settings: dict[str, Any], context: Context, folder: Path) -> SpeechClassifier:
    """The system that `save` wrote."""
    system = build(settings, context)
    seed_everything(context)
    system._build()
    weights.load_trained(system.net_, folder / saved.WEIGHTS)
    system.front_end_ = FrontEnd(str(folder))
    return system


def _whole(examples: Examples) -> list[tuple[str, int, int]]:
    return [
        (name, 0, round(examples.audio.seconds(name) * SAMPLE_RATE))
        for name in examples.utterance_ids
    ]
