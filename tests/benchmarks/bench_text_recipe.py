"""Training on texts with serflow against transformers' own recipe, on the lengths of EmoSPeech 2024.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_text_recipe.py [FOLDER]

The recipe is that of transformers' examples/pytorch/text-classification with padding to the longest text
of a batch: texts are tokenised beforehand, batches are random, DataCollatorWithPadding pads, and Trainer
trains the model's sequence classifier. (By default the example pads every text to 128 tokens, which is
slower still.) serflow trains the same network, built from the same checkpoint, in batches of like length.
Both: a RoBERTa of a few layers with random weights, a word-piece vocabulary learnt on the texts, AdamW,
batch size 16, one thread.

Tokens are real ones, without padding. Each side in a process of its own, as users run them, since serflow
tells the C library to keep freed memory; once more without that. One epoch of each in turn; medians, by the
clock and by the CPU's time, which a busy machine disturbs less, and each process's peak memory.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    RobertaConfig,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from runs import DATA
from serflow.context import Context
from serflow.systems.interface import Examples
from serflow.systems.text_classifier import build
from serflow.training import setup
from serflow.training.trainer import NetworkTrainer

FOLDER = DATA / "emospeech2024"
SEED, BATCH_SIZE, LEARNING_RATE = 1, 16, 1e-4
VOCABULARY, ROUNDS = 8000, 5


class Watch(TrainerCallback):
    """Seconds of all steps of an epoch: the clock's, the CPU's."""

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._start = np.array([time.perf_counter(), time.process_time()])

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds = np.array([time.perf_counter(), time.process_time()]) - self._start


def write_model(folder: Path, texts: list[str]) -> PreTrainedTokenizerFast:
    """A small RoBERTa with random weights, and a tokenizer that was trained on the texts."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special)
    )
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>", cls_token="<s>", sep_token="</s>",
    )  # fmt: skip
    torch.manual_seed(SEED)
    config = RobertaConfig(
        vocab_size=core.get_vocab_size(), hidden_size=192, num_hidden_layers=4,
        num_attention_heads=4, intermediate_size=768, max_position_embeddings=514, num_labels=6,
        pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def recipe(model: Path, texts: list[str], labels: np.ndarray) -> np.ndarray:
    """Seconds of an epoch of the recipe."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    transformers.set_seed(SEED)
    data = datasets.Dataset.from_dict({"text": texts, "label": labels})
    data = data.map(lambda rows: tokenizer(rows["text"]), batched=True, remove_columns="text")
    arguments = TrainingArguments(
        output_dir=str(model / "recipe"), seed=SEED, num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, use_cpu=True,
        save_strategy="no", disable_tqdm=True, report_to="none",
    )  # fmt: skip
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(model),
        args=arguments,
        train_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    return watched(trainer)


def ours(model: Path, texts: list[str], labels: np.ndarray) -> np.ndarray:
    """Seconds of an epoch of serflow's trainer."""
    seen: list[np.ndarray] = []

    class Kept(Watch):
        def on_train_end(self, args, state, control, **kwargs):
            seen.append(self.seconds)

    settings = {
        "model": str(model),
        "training": {"epochs": 1, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE},
    }
    with tempfile.TemporaryDirectory() as folder:
        system = build(settings, Context([str(i) for i in range(6)], SEED, Path(folder)))
        examples = Examples(
            [str(i) for i in range(len(texts))], labels, np.full(len(texts), ""), texts=texts
        )
        plain = NetworkTrainer.__init__

        def watching(self, *args, **kwargs):
            plain(self, *args, **kwargs)
            self.add_callback(Kept())

        NetworkTrainer.__init__ = watching
        try:
            system.fit(examples)
        finally:
            NetworkTrainer.__init__ = plain
    return seen[0]


def quiet() -> None:
    """What every process starts with."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def giving_back() -> None:
    """The same, and serflow leaves the C library as it is."""
    quiet()
    setup.keep_freed_memory = lambda: False


def peak_mb() -> float:
    """Peak memory of this process so far, resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def watched(trainer: Trainer) -> np.ndarray:
    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    return watch.seconds


def main() -> None:
    """Measure and print."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    files = sorted(folder.glob("*train*.csv"))
    if not files:
        print(f"skipped: there is no train.csv in {folder}; give the folder as the argument")
        return
    quiet()
    rows = pd.read_csv(files[0])
    texts = rows["transcription"].fillna("").astype(str).tolist()
    labels = rows["label"].astype("category").cat.codes.to_numpy().astype(np.int64)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch)
        tokenizer = write_model(model, texts)
        lengths = np.array([len(ids) for ids in tokenizer(texts)["input_ids"]])
        print(
            f"EmoSPeech 2024, {len(texts)} texts of {lengths.min()} to {lengths.max()} tokens, median "
            f"{np.median(lengths):.0f}; batch size {BATCH_SIZE}, median of {ROUNDS} epochs"
        )
        sides = {
            "serflow": (ours, quiet),
            "serflow, memory given back": (ours, giving_back),
            "recipe": (recipe, quiet),
        }
        seconds: dict[str, list[np.ndarray]] = {name: [] for name in sides}
        with ExitStack() as stack:
            processes = {
                name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), begin))
                for name, (_, begin) in sides.items()
            }
            for _ in range(1 + ROUNDS):
                for name, (side, _) in sides.items():
                    epoch = processes[name].submit(side, model, texts, labels)
                    seconds[name].append(epoch.result())
            peaks = {name: process.submit(peak_mb).result() for name, process in processes.items()}
    theirs = np.array(seconds["recipe"][1:])  # the first ones warm up
    for name, epochs in seconds.items():
        taken = np.array(epochs[1:])
        clock, cpu = np.median(theirs, axis=0) / np.median(taken, axis=0)
        ratios = (theirs / taken)[:, 0]
        print(
            f"  {name:27s} {lengths.sum() / np.median(taken[:, 0]):6,.0f} tokens/s; {clock:.2f} times "
            f"as fast ({ratios.min():.2f} to {ratios.max():.2f}), {cpu:.2f} by CPU time; "
            f"peak {peaks[name]:,.0f} MB"
        )
    print("  wanted: 1.8")


if __name__ == "__main__":
    main()
