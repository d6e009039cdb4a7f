"""The `speech_classifier` family: a transformers speech encoder with pooling and a head.

TalTech's audio model (Odyssey 2024, section 3.1), HuBERT with a weighted sum of its layers, and their
kin: encoder, adaptation, layers, pooling, head, crops and training are settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from serflow import training
from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.augmenter import Augmenter
from serflow.batching import Draw
from serflow.config.families.speech_classifier import CropSettings, SpeechClassifierConfig
from serflow.context import Context
from serflow.layer_means import Rows
from serflow.nets import weights
from serflow.nets.adaptation import Adapters, Lora
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.heads import build_head
from serflow.nets.layers import WeightedSum
from serflow.nets.means import MeansNet
from serflow.nets.pooling import build_pooling
from serflow.nets.speech import SpeechNet, load_head
from serflow.systems import saved
from serflow.systems.interface import Examples

# Features of whole utterances are the same in every epoch and are kept up to this many bytes.
CACHE_BYTES = 2 << 30

DIGEST_SAMPLES = 64


class Spans:
    """Stretches of audio as network inputs; meets `training.Inputs`.

    Parameters
    ----------
    audio : AudioStore
    spans : list of (utterance id, first sample, end sample)
    front_end : FrontEnd
    augmenter : Augmenter, optional
        For training rows.
    """

    def __init__(
        self,
        audio: AudioStore,
        spans: list[tuple[str, int, int]],
        front_end: FrontEnd,
        augmenter: Augmenter | None = None,
    ) -> None:
        self.varies = augmenter is not None
        self._audio = audio
        self._spans = spans
        self._front_end = front_end
        self._augmenter = augmenter
        self._kept: dict[int, Tensor] = {}
        self._room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self._spans)

    def span(self, draw: Draw) -> tuple[str, int, int]:
        """Utterance id, first and end sample of an example."""
        return self._spans[draw.row]

    def lengths(self, draws: list[Draw]) -> NDArray[np.float64]:
        """Samples of each example, shape (n,)."""
        lengths = [end - first for _, first, end in map(self.span, draws)]
        if self._augmenter:
            lengths = [
                self._augmenter.length(n, draw) for n, draw in zip(lengths, draws, strict=True)
            ]
        return np.array(lengths, dtype=np.float64)

    def item(self, draw: Draw) -> Tensor:
        """Features of one example, shape (time,) or (time, features)."""
        if draw.row in self._kept:
            return self._kept[draw.row]
        name, first, end = self.span(draw)
        samples = self._audio.samples(name)[first:end]
        if self._augmenter:
            samples = self._augmenter(samples, draw)
        features = self._front_end(samples)
        size = features.numel() * features.element_size()
        if self._front_end.costly and not self.varies and size <= self._room:
            self._room -= size
            self._kept[draw.row] = features
        return features

    def collate(self, items: list[Tensor]) -> dict[str, Tensor]:
        """Right-pad with zeros: inputs (batch, time, ...) and mask (batch, time) of bool."""
        lengths = torch.tensor([len(item) for item in items])
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        return {"inputs": pad_sequence(items, batch_first=True), "mask": mask}

    def digest(self) -> str:
        """Digest of the spans, of some samples of each, and of what is mixed in."""
        state = hashlib.sha256(self._augmenter.digest().encode() if self._augmenter else b"")
        for name, first, end in self._spans:
            middle = (first + end) // 2
            some = self._audio.samples(name)[middle : middle + DIGEST_SAMPLES]
            state.update(f"{name} {first} {end}".encode())
            state.update(np.ascontiguousarray(some).tobytes())
        return state.hexdigest()


class Crops(Spans):
    """Random chunks of utterances, a function of (seed, epoch, position) alone.

    Parameters
    ----------
    audio : AudioStore
    spans : list of (utterance id, 0, samples)
    front_end : FrontEnd
    min_samples, max_samples : int
        A chunk's length is drawn uniformly between them, its place uniformly in the utterance; a
        shorter utterance is taken whole.
    seed : int
    augmenter : Augmenter, optional
        What it does to a chunk does not count for the chunk's length.

    References
    ----------
    TalTech, Odyssey 2024, section 3.1: "random 2 to 4 second chunks".
    """

    def __init__(
        self,
        audio: AudioStore,
        spans: list[tuple[str, int, int]],
        front_end: FrontEnd,
        min_samples: int,
        max_samples: int,
        seed: int,
        augmenter: Augmenter | None = None,
    ) -> None:
        super().__init__(audio, spans, front_end, augmenter)
        self.varies = True
        self._range = (min_samples, max_samples)
        self._seed = seed

    def span(self, draw: Draw) -> tuple[str, int, int]:
        """Utterance id, first and end sample of the example's chunk."""
        name, _, n = super().span(draw)
        rng = np.random.default_rng([self._seed, draw.epoch, draw.position])
        length = int(rng.integers(self._range[0], self._range[1], endpoint=True))
        if length >= n:
            return name, 0, n
        first = int(rng.integers(0, n - length, endpoint=True))
        return name, first, first + length


class Means:
    """Layer means as network inputs; meets `training.Inputs`.

    Parameters
    ----------
    rows : Rows
    """

    varies = False

    def __init__(self, rows: Rows) -> None:
        self._rows = torch.from_numpy(rows.values)
        self._samples = rows.samples.astype(np.float64)

    def __len__(self) -> int:
        return len(self._rows)

    def lengths(self, draws: list[Draw]) -> NDArray[np.float64]:
        """Samples of each example's utterance, shape (n,)."""
        return self._samples[[draw.row for draw in draws]]

    def item(self, draw: Draw) -> Tensor:
        """Layer means of one example."""
        return self._rows[draw.row]

    def collate(self, items: list[Tensor]) -> dict[str, Tensor]:
        """Stack: means (batch, depths + 1, size)."""
        return {"means": torch.stack(items)}

    def digest(self) -> str:
        """Digest of some values of each."""
        return hashlib.sha256(self._rows[:, :, :8].numpy().tobytes()).hexdigest()


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

    def fit(self, train: Examples, dev: Examples | None = None) -> SpeechClassifier:
        """Train on the labelled rows; dev rows choose the epoch if the settings say so."""
        training.seed_everything(self.context)
        self._build()
        self.augmenter_ = None
        if train.layer_means is None:
            net, inputs = self.net_, self._training_inputs(train)
        else:
            net = MeansNet(self.net_.layers, self.net_.head)
            inputs = Means(train.layer_means)
        on_dev = None
        if dev is not None and len(dev) and self.settings.training.select == "best":
            on_dev = training.Dev(self._scorer(dev), dev.labels)
        fitted = training.fit_network(
            net, inputs, train.labels, self.settings.training, self.context, on_dev
        )
        self.train_prior_ = fitted.prior
        self.facts_ = fitted.facts | {"head_from_checkpoint": ", ".join(self._copied) or "nothing"}
        if self.augmenter_:
            chosen = self.settings.training
            self.facts_["augmentation"] = self.augmenter_.facts(
                len(train), chosen.batch_size, chosen.epochs
            )
        return self

    def predict_log_proba(self, examples: Examples) -> NDArray[np.float64]:
        """Log-posteriors, shape (n, n_classes); those of a long utterance's chunks are averaged."""
        if not len(examples):
            return np.empty((0, len(self.context.classes)))
        return self._scorer(examples)()

    def embed(self, examples: Examples) -> NDArray[np.float64]:
        """Embeddings, shape (n, hidden); those of a long utterance's chunks are averaged."""
        chunks, owners = self._chunks(examples)
        settings = self.settings.training
        found = training.outputs(
            self.net_,
            self.net_.embed,
            chunks,
            settings.batch_size,
            training.uses_bf16(settings),
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
        return lambda: training.predict_log_proba(net, inputs, size)

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
            head.type, pooling.output_size, head.hidden, len(self.context.classes), head.dropout
        )
        layers = WeightedSum(encoder.depth) if head.layers == "weighted_sum" else None
        net = SpeechNet(encoder, pooling, top, layers)
        self._copied = load_head(net, settings.model) if settings.initial == "pretrained" else []
        self.net_ = net.to(training.device())
        self.front_end_ = FrontEnd(settings.model)

    def _training_inputs(self, examples: Examples) -> Spans:
        self.augmenter_ = self.settings.augmentation and Augmenter(
            self.settings.augmentation, self.context.sounds, self.context.seed
        )
        spans = _whole(examples)
        crop = self.settings.crop
        if crop is None:
            # Too long to train on whole: a chunk of the length that is also scored at once.
            slowest = self.settings.augmentation.slowest() if self.settings.augmentation else 1
            longest = self.settings.max_seconds * slowest
            if all(end <= round(longest * SAMPLE_RATE) for _, _, end in spans):
                return Spans(examples.audio, spans, self.front_end_, self.augmenter_)
            crop = CropSettings(min_s=longest, max_s=longest)
        return Crops(
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
        scores = training.predict_log_proba(
            self.net_, chunks, settings.batch_size, training.uses_bf16(settings)
        )
        sums = np.full((owners[-1] + 1, scores.shape[1]), -np.inf)
        np.logaddexp.at(sums, owners, scores)
        return sums - np.log(np.bincount(owners))[:, None]


def build(settings: dict[str, Any], context: Context) -> SpeechClassifier:
    """Build an untrained system from the settings of a study."""
    return SpeechClassifier(
        SpeechClassifierConfig.model_validate({"family": "speech_classifier"} | settings), context
    )


def load(settings: dict[str, Any], context: Context, folder: Path) -> SpeechClassifier:
    """The system that `save` wrote."""
    system = build(settings, context)
    training.seed_everything(context)
    system._build()
    weights.load_trained(system.net_, folder / saved.WEIGHTS)
    system.front_end_ = FrontEnd(str(folder))
    return system


def _whole(examples: Examples) -> list[tuple[str, int, int]]:
    return [
        (name, 0, round(examples.audio.seconds(name) * SAMPLE_RATE))
        for name in examples.utterance_ids
    ]
