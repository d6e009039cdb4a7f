"""Training with serflow against transformers' own recipe for audio classification, on EmoDB.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_recipe.py [EMODB]

The recipe is that of transformers' examples/pytorch/audio-classification: a `datasets` transform reads
the files of a batch and applies the feature extractor, a collator pads, batches are random, and
Trainer trains the model's audio classifier. (soundfile reads the files here, as `datasets` itself
needs torchcodec; the convolutions are trained in both.) serflow trains the same network, built from
the same checkpoint, from its packed store in its own batches. Both: a tiny HuBERT of the large kind, or
a tiny Wav2Vec2-BERT; AdamW, batch size 16, one thread, gradients clipped at 1, a linear schedule.

Speed: one epoch of each in turn, from its beginning to its last step; medians, by the clock and by the
CPU's time, which a busy machine disturbs less. Every epoch is the first of a training: serflow has
kept no features yet.

Losses: HuBERT is trained by both on the recipe's batches, and the losses of all steps are compared. Not
so Wav2Vec2-BERT: for it the recipe pads before it would make a mask, and hears the padding.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import soundfile
import torch
import transformers
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    HubertConfig,
    SeamlessM4TFeatureExtractor,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    Wav2Vec2BertConfig,
    Wav2Vec2FeatureExtractor,
)
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import IntervalStrategy

import tiny_models
from runs import DATA
from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.batching import Batches, Draw
from serflow.config.families.speech_classifier import SpeechClassifierConfig
from serflow.context import Context
from serflow.packing import pack
from serflow.systems.interface import Examples
from serflow.systems.speech_classifier import SpeechClassifier
from serflow.tables import LISTING
from serflow.training.callbacks import EpochEnd, Progress
from serflow.training.setup import seed_everything
from serflow.training.trainer import NetworkTrainer, TrainingExamples

EMODB = DATA / "emodb"
CLASSES = "WLEAFTN"
SEED, BATCH_SIZE, LEARNING_RATE, HIDDEN = 1, 16, 1e-3, 64
ROUNDS = 3
EPOCHS = 3  # of the comparison of losses


class Recorded:
    """Batches of another run, epoch by epoch: a batch sampler."""

    def __init__(self, rows: list[list[int]], per_epoch: int) -> None:
        self._rows, self._per_epoch = rows, per_epoch
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._per_epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        first = self._epoch * self._per_epoch
        for number, batch in enumerate(self._rows[first : first + self._per_epoch]):
            yield [Draw(self._epoch, row, row, number) for row in batch]


class Watch(TrainerCallback):
    """Seconds from the beginning of an epoch to the end of its last step: the clock's, the CPU's."""

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._start = np.array([time.perf_counter(), time.process_time()])

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds = np.array([time.perf_counter(), time.process_time()]) - self._start


def write_checkpoint(folder: Path, kind: str) -> None:
    """A tiny classifier with random weights; dropout is off, as its draws would differ."""
    torch.manual_seed(SEED)
    alike = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * HIDDEN,
        "classifier_proj_size": HIDDEN,
        "num_labels": len(CLASSES),
        "apply_spec_augment": False,
        "layerdrop": 0.0,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "final_dropout": 0.0,
    }
    if kind == "HuBERT":
        large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
        config = HubertConfig(**tiny_models.CONV | alike | large)
        extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    else:
        config = Wav2Vec2BertConfig(**alike, conformer_conv_dropout=0.0)
        extractor = SeamlessM4TFeatureExtractor()
    AutoModelForAudioClassification.from_config(config).save_pretrained(folder)
    extractor.save_pretrained(folder)


def recipe(model: Path, files: list[Path], labels: np.ndarray, epochs: int) -> tuple[Trainer, list]:
    """Trainer as the recipe sets it up, and a list that its batches of rows are added to."""
    transformers.set_seed(SEED)
    extractor = AutoFeatureExtractor.from_pretrained(model, return_attention_mask=True)
    read: list[list[int]] = []

    def transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        read.append(batch["row"])
        waves = [soundfile.read(file, dtype="float32")[0] for file in batch["audio"]]
        inputs = extractor(waves, sampling_rate=SAMPLE_RATE)
        name = extractor.model_input_names[0]
        return {name: inputs[name], "labels": list(batch["label"])}

    columns = {"audio": [str(f) for f in files], "label": labels, "row": range(len(files))}
    data = datasets.Dataset.from_dict(columns)
    data.set_transform(transform)
    arguments = TrainingArguments(
        output_dir=str(model / "recipe"),
        seed=SEED,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        remove_unused_columns=False,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(
        model=AutoModelForAudioClassification.from_pretrained(model),
        args=arguments,
        train_dataset=data,
        processing_class=extractor,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, read


def ours(
    model: Path, examples: Examples, epochs: int, batches: Recorded | None = None
) -> NetworkTrainer:
    """serflow's trainer, without checkpoints and progress."""
    settings = SpeechClassifierConfig.model_validate(
        {
            "family": "speech_classifier",
            "model": str(model),
            "adaptation": "full",
            "head": {"pooling": "mean", "type": "projector", "hidden": HIDDEN},
            "training": {
                "epochs": epochs,
                "batch_size": BATCH_SIZE,
                "learning_rate": LEARNING_RATE,
                "optimizer": "adamw",
                "warmup": 0.0,
            },
        }
    )
    context = Context(list(CLASSES), SEED, model / "serflow")
    seed_everything(context)
    classifier = SpeechClassifier(settings, context)
    classifier._build()
    # serflow starts a new output layer; here it is the recipe's.
    theirs = AutoModelForAudioClassification.from_pretrained(model).classifier
    classifier.net_.head.output.categories.load_state_dict(theirs.state_dict())
    _, inputs = classifier._trained_on(examples, settings.phases[0])
    trainer = NetworkTrainer(
        classifier.net_,
        TrainingExamples(inputs, classifier.columns.targets(examples)),
        batches or Batches(examples.labels, inputs.lengths, BATCH_SIZE, SEED),
        settings.training,
        context,
        loss_weights=None,
        dev=None,
        fingerprint="",
        sharded=False,
    )
    trainer.remove_callback(EpochEnd)
    trainer.remove_callback(Progress)
    return trainer


def seconds_of(trainer: Trainer) -> np.ndarray:
    """Of one epoch; see `Watch`."""
    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    return watch.seconds


def losses_of(trainer: Trainer) -> np.ndarray:
    """The loss of every step."""
    trainer.args.logging_strategy = IntervalStrategy.STEPS
    trainer.args.logging_steps = 1
    trainer.train()
    return np.array([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else EMODB
    files = sorted((folder / "wav").glob("*.wav"))
    if not files:
        print(f"skipped: there is no EmoDB in {folder}; give its folder as the argument")
        return
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    names = [file.stem for file in files]
    labels = np.array([CLASSES.index(name[5]) for name in names])
    print(f"EmoDB, {len(files)} utterances, batch size {BATCH_SIZE}, median of {ROUNDS} epochs")
    with tempfile.TemporaryDirectory() as scratch:
        store = (Path(scratch) / "audio.i16", Path(scratch) / "audio.parquet")
        rows = {"utterance_id": names, "corpus": "emodb", "path": [str(file) for file in files]}
        pack(pd.DataFrame(rows).reindex(columns=list(LISTING.columns)), *store, root="/")
        speakers = np.array([name[:2] for name in names])
        examples = Examples(names, labels, speakers, audio=AudioStore([store]))
        models = {kind: Path(scratch) / kind for kind in ("HuBERT", "Wav2Vec2-BERT")}
        for kind, model in models.items():
            write_checkpoint(model, kind)
            compare_speed(kind, model, files, examples)
        compare_losses(models["HuBERT"], files, examples)


def compare_speed(kind: str, model: Path, files: list[Path], examples: Examples) -> None:
    ourselves, theirs = [], []
    for _ in range(1 + ROUNDS):
        ourselves.append(seconds_of(ours(model, examples, 1)))
        theirs.append(seconds_of(recipe(model, files, examples.labels, 1)[0]))
    del ourselves[0], theirs[0]  # they warm up
    our, their = np.median(ourselves, axis=0), np.median(theirs, axis=0)
    ratios = np.divide(theirs, ourselves)[:, 0]
    print(
        f"  {kind:13s} serflow {len(files) / our[0]:6.1f} utterances/s,"
        f" recipe {len(files) / their[0]:6.1f}; {their[0] / our[0]:.2f} times as fast"
        f" ({ratios.min():.2f} to {ratios.max():.2f}), {their[1] / our[1]:.2f} by CPU time;"
        " wanted: 1.8",
        flush=True,
    )


def compare_losses(model: Path, files: list[Path], examples: Examples) -> None:
    trainer, read = recipe(model, files, examples.labels, EPOCHS)
    expected = losses_of(trainer)
    steps = len(expected) // EPOCHS
    found = losses_of(ours(model, examples, EPOCHS, Recorded(read, steps)))
    difference = np.abs(found - expected).reshape(EPOCHS, steps).max(axis=1)
    print(
        f"  equal batches, {EPOCHS} x {steps} steps, loss {expected[0]:.3f} to {expected[-1]:.3f}"
    )
    print(f"  largest difference by epoch: {', '.join(f'{each:.1e}' for each in difference)}")


if __name__ == "__main__":
    main()
