"""Training speed of the papers' full-size systems on a GPU, and how long their schedules take.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/gpu.py [SYSTEM ...] [--tiny]

Encoders and language models of the published sizes with random weights are trained on noise, or on
words, of drawn lengths by serflow's own networks, batches and trainer, with the settings of the studies
(Gao's are here: no study has them yet). Augmentation is left out; its cost is in bench_augmentation.py.
No model and no corpus is needed; a language model's random weights lie on the disk for a while (LLaMA-2
7B: 14 GB; 70B in 4 bits: 37 GB).

Epochs hold the same batches. The first warms up and counts the floating-point operations of every
step, those that FlopCounterMode sees run: matrix products, convolutions and attention, forward and
backward. The backward pass is counted as it runs, so that a frozen weight's gradient, which nobody
computes, is not counted; what gradient checkpointing computes again is. In the second layers are
compiled, and in the third steps are recorded, where that is asked for. The others are timed from the
end of their first step to that of their last, waiting for data included; medians of epochs. In between
nothing waits for the device, as in a training.

Printed are trained and all parameters; utterances per second; seconds of speech, or tokens, per second;
model FLOP utilisation: operations,
those on padding included, per second over those of a large square matrix product in the same number
format, measured first; the share of the time that the device waits for data; peak memory allocated
(on CPU: resident, of the process so far); hours for the paper's whole schedule, of one fold; the mean
loss of the last epoch, by which ways to compute the same can be compared.

--tiny does all this with tiny models on the CPU, within seconds; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, conv_flop_count
from transformers import TrainerCallback

import tiny_models
from benchmarks.published_models import write_model
from serflow.audio import SAMPLE_RATE
from serflow.batching import Batches, Draw
from serflow.config.families.training import TrainingSettings
from serflow.context import Context
from serflow.nets import weights
from serflow.systems.interface import Examples, build
from serflow.targets import Targets
from serflow.training.callbacks import EpochEnd, Progress
from serflow.training.interface import Inputs
from serflow.training.setup import device, seed_everything, uses_bf16
from serflow.training.trainer import NetworkTrainer, TrainingExamples

ROOT = Path(__file__).parents[2]
SHORTEST_S, LONGEST_S = 0.6, 30.0
# Epochs that are not timed.
UNTIMED = 3


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths of a corpus: seconds of speech, or words."""

    mean: float
    deviation: float

    def draw(self, n: int) -> np.ndarray:
        """Lengths of n utterances."""
        variance = np.log1p((self.deviation / self.mean) ** 2)
        normal = np.random.default_rng(0).normal(0, 1, n)
        return self.mean * np.exp(np.sqrt(variance) * normal - variance / 2)

    def samples(self, n: int) -> np.ndarray:
        """Samples of n spoken utterances."""
        return (self.draw(n).clip(SHORTEST_S, LONGEST_S) * SAMPLE_RATE).astype(int)

    def texts(self, n: int) -> list[str]:
        """Texts of so many words, a token each."""
        rng = np.random.default_rng(1)
        counts = self.draw(n).round().clip(1, 400).astype(int)
        return [" ".join(rng.choice(tiny_models.WORDS, count)) for count in counts]


@dataclass(frozen=True)
class System:
    """What is trained, on utterances of which lengths, and the paper's schedule."""

    model: str
    settings: dict[str, Any]
    lengths: Lengths
    n_classes: int
    utterances: int
    epochs: int

    @property
    def recordable(self) -> bool:
        """Whether CUDA graphs can hold its steps."""
        checkpointed = self.settings["training"].get("gradient_checkpointing", False)
        return not checkpointed and self.settings.get("quantisation", "none") == "none"


def _of_study(study: str, system: str) -> dict[str, Any]:
    """A system's settings in a study, augmentation left out."""
    studied = yaml.safe_load((ROOT / "studies" / f"{study}.yaml").read_text(encoding="utf-8"))
    apart = ("augmentation", "grid")
    return {k: v for k, v in studied["systems"][system].items() if k not in apart}


# Section 3, IEMOCAP: "10e-5" is taken for 1e-4. Their adapters and losses are not in serflow.
GAO = {
    "family": "speech_classifier",
    "adaptation": "lora",
    "lora": {
        "rank": 64,
        "alpha": 64,
        "dropout": 0.0,
        "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj"],
    },
    "head": {"pooling": "mean"},
    "training": {"epochs": 200, "batch_size": 16, "learning_rate": 1e-4, "optimizer": "adam"},
}
# Utterances: MSP-Podcast 1.11's training partition; four fifths of the four corpora; four of five
# sessions of IEMOCAP. Durations: of the corpora, rounded.
TALTECH_DATA = {"lengths": Lengths(5.8, 2.4), "n_classes": 10, "utterances": 84_030, "epochs": 10}
HUBERT_DATA = {"lengths": Lengths(2.7, 0.7), "n_classes": 8, "utterances": 9_730, "epochs": 50}
GAO_DATA = {"lengths": Lengths(4.5, 3.1), "n_classes": 4, "utterances": 4_425, "epochs": 200}
SYSTEMS = {
    "taltech_lora": System(
        "w2v-bert-2.0", _of_study("odyssey2024", "wav2vec2_bert"), **TALTECH_DATA
    ),
    **{
        name: System("hubert-large", _of_study("hubert_multilabel", name), **HUBERT_DATA)
        for name in ("hubert_full", "hubert_qkv", "hubert_classifier")
    },
    "gao_lora": System("xls-r-300m", GAO, **GAO_DATA),
    # Words: about those of the corpora's transcripts, as tokens; Gemma reads its prompt as well.
    "taltech_llama_7b": System(
        "llama-2-7b", _of_study("odyssey2024", "llama2_7b"), Lengths(22, 15), 10, 84_030, 40
    ),
    "taltech_llama_70b": System(
        "llama-2-70b", _of_study("odyssey2024", "llama2_70b"), Lengths(22, 15), 10, 84_030, 4
    ),
    "thau_gemma_2b": System(
        "gemma-1.1-2b", _of_study("emospeech2024", "gemma"), Lengths(44, 38), 6, 2_400, 6
    ),
}


class Noise:
    """Utterances of white noise, with AudioStore's face."""

    def __init__(self, lengths: np.ndarray) -> None:
        rng = np.random.default_rng(1)
        self._noise = rng.normal(0, 0.1, round(2 * LONGEST_S * SAMPLE_RATE)).astype(np.float32)
        self._spans = {
            str(i): (int(first), int(n))
            for i, (n, first) in enumerate(
                zip(lengths, rng.integers(0, len(self._noise) // 2, len(lengths)), strict=True)
            )
        }

    def samples(self, name: str) -> np.ndarray:
        first, n = self._spans[name]
        return self._noise[first : first + n].copy()

    def seconds(self, name: str) -> float:
        return self._spans[name][1] / SAMPLE_RATE


class SameBatches(Batches):
    """The batches of epoch 0 in every epoch."""

    def set_epoch(self, epoch: int) -> None:
        pass


def counter() -> FlopCounterMode:
    """Of the operations that run while it is entered.

    torch 2.13 counts the gradient of a grouped convolution's weight once for each group, which adds a
    tenth to all operations of HuBERT large. Products added in place it does not count.
    """

    def backward(
        grad, inputs, weight, bias, stride, padding, dilation, transposed, *rest, out_shape
    ):
        # The gradients of input and weight, where wanted, each take what the forward pass took.
        return sum(rest[-1][:2]) * conv_flop_count(inputs, weight, grad, transposed)

    def added_product(added, left, right, out_shape, **scales):
        return bmm_flop(left, right)

    return FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten.convolution_backward: backward,
            torch.ops.aten.baddbmm_: added_product,
        },
    )


@dataclass
class Steps(TrainerCallback):
    """Counts the operations of each step of the first epoch, and times each step of the others."""

    trainer: NetworkTrainer
    counts: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._replays = self.trainer._replays

    def on_epoch_begin(self, args, state, control, **kwargs):
        epoch = round(state.epoch)
        self._counting, self._timed = epoch == 0, epoch >= UNTIMED
        # Neither compiled nor replayed operations are seen.
        torch.compiler.set_stance("force_eager" if self._counting else "default")
        self.trainer._replays = None if self._counting else self._replays
        self._begins: list[Moment] = []
        self._ends: list[Moment] = []

    def on_step_begin(self, args, state, control, **kwargs):
        # The batches of the step have been fetched by now.
        self._begins.append(Moment())
        if self._counting:
            self._counter = counter()
            self._counter.__enter__()

    def on_step_end(self, args, state, control, **kwargs):
        if self._counting:
            self._counter.__exit__(None, None, None)
            self.counts.append(self._counter.get_total_flops())
        self._ends.append(Moment())

    def on_epoch_end(self, args, state, control, **kwargs):
        if self._counting and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        if self._timed:
            synchronize()
            self.seconds.append(self._ends[0].until(self._ends[-1]))
            waits = zip(self._ends[:-1], self._begins[1:], strict=True)
            self.idle.append(sum(end.until(begin) for end, begin in waits))


class Moment:
    """When the device has done all that it was given so far."""

    def __init__(self) -> None:
        self._at: Any = time.perf_counter()
        if torch.cuda.is_available():
            self._at = torch.cuda.Event(enable_timing=True)
            self._at.record()

    def until(self, later: Moment) -> float:
        """Seconds, once the device has got to both."""
        if torch.cuda.is_available():
            return self._at.elapsed_time(later._at) / 1000
        return later._at - self._at


@dataclass(frozen=True)
class Measured:
    """One row of the table."""

    trained: int
    parameters: int
    rate: float
    """Utterances per second."""
    units: float
    """Seconds of speech, or tokens, per second."""
    flops: float
    """Floating-point operations per second."""
    waiting: float
    """Share of the time without a batch."""
    peak_gb: float
    loss: float
    """Of the last epoch."""

    def row(self, system: System, ceiling: float) -> str:
        """The columns after the system's name."""
        each = system.settings["training"]
        batch = f"{each['batch_size']} x {each.get('accumulation', 1)}"
        hours = system.utterances * system.epochs / self.rate / 3600
        return (
            f"{self.trained / 1e6:7.2f} M {self.parameters / 1e6:8.2f} M {batch:>7}"
            f" {self.rate:12.1f} {self.units:10.0f} {self.flops / 1e12:8.3f} {self.flops / ceiling:11.1%}"
            f" {self.waiting:7.1%} {self.peak_gb:7.2f} {hours:7.2f} {self.loss:7.4f}"
        )


def prepared(
    system: System, folder: Path, n: int, context: Context
) -> tuple[nn.Module, Inputs, Targets, float, TrainingSettings]:
    """The network, n examples and what is learnt of them, as the family prepares them.

    Also the units of an example, on average.
    """
    labels = np.arange(n) % system.n_classes
    names = [str(i) for i in range(n)]
    settings = system.settings | {"model": str(folder)}
    seed_everything(context)
    if settings["family"] == "speech_classifier":
        built = build("speech_classifier", settings | {"initial": "random"}, context)
        built._build()
        audio = Noise(system.lengths.samples(n))
        examples = Examples(names, labels, np.array(names), audio=audio)
        net, inputs = built._trained_on(examples, built.settings.phases[0])
        targets, unit = built.columns.targets(examples), SAMPLE_RATE
    else:
        built = build(settings["family"], settings, context)
        texts = system.lengths.texts(n)
        examples = Examples(names, labels, np.array(names), texts=texts)
        if settings["family"] == "prompted_lm":
            built._build(str(folder))
            inputs, _ = built._inputs(examples)
            targets = built._targets(examples, elsewhere=True)
        else:
            built._build()
            inputs, targets = built._inputs(examples), built.columns.targets(examples)
        net, unit = built.net_, 1
    draws = [Draw(0, i, i) for i in range(n)]
    mean = float(np.mean(inputs.lengths(draws))) / unit
    return net, inputs, targets, mean, built.settings.training


def switch_off_dropout(net: nn.Module) -> None:
    """Of layers, and of attention, which has it as a number."""
    for part in net.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0


def measure(
    system: System, folder: Path, steps: int, epochs: int, threads: int, dropout: bool = True
) -> Measured:
    """Train `epochs` timed epochs of `steps` optimiser steps with the model in `folder`."""
    context = Context(tiny_models.WORDS[: system.n_classes], 0, folder / "run", threads)
    each = TrainingSettings.model_validate(system.settings["training"])
    size = each.batch_size * each.accumulation
    n = steps * size
    net, inputs, targets, mean, chosen = prepared(system, folder, n, context)
    if not dropout:
        switch_off_dropout(net)
    batches = SameBatches(
        targets.labels, inputs.lengths, chosen.batch_size, 0, bucketed=chosen.batches == "bucketed"
    )
    trainer = NetworkTrainer(
        net,
        TrainingExamples(inputs, targets),
        batches,
        chosen.model_copy(update={"epochs": UNTIMED + epochs}),
        context,
        loss_weights=None,
        dev=None,
        fingerprint="",
        sharded=False,
    )
    # No checkpoints and no progress bar.
    trainer.remove_callback(EpochEnd)
    trainer.remove_callback(Progress)
    seen = Steps(trainer)
    trainer.add_callback(seen)
    trainer.train()
    seconds = np.array(seen.seconds)
    rate = float(np.median((n - size) / seconds))
    return Measured(
        *weights.parameter_counts(net),
        rate=rate,
        units=rate * mean,
        flops=float(np.median(sum(seen.counts[1:]) / seconds)),
        waiting=float(np.median(np.array(seen.idle) / seconds)),
        peak_gb=peak_bytes() / 1e9,
        loss=[entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1],
    )


def ceiling(size: int, dtype: torch.dtype, rounds: int = 20, products: int = 10) -> float:
    """Floating-point operations per second of products of two size x size matrices."""
    where = device()
    left, right = (torch.randn(size, size, device=where).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(rounds + 3):
        synchronize()
        start = time.perf_counter()
        for _ in range(products):
            left @ right
        synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 * products / float(np.median(seconds[3:]))


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_bytes() -> int:
    """Peak memory: allocated on the GPU, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(*arguments: str) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=", ".join(SYSTEMS))
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU, a self-test")
    parser.add_argument("--compiled", action="store_true", help="with torch.compile")
    parser.add_argument("--graphs", action="store_true", help="with CUDA graphs")
    parser.add_argument(
        "--no-dropout", action="store_true", help="so that losses are alike, however computed"
    )
    parser.add_argument("--batch-size", type=int, help="the studies' batch sizes otherwise")
    parser.add_argument("--steps", type=int, help="optimiser steps an epoch: 20, tiny 3")
    parser.add_argument("--epochs", type=int, help="timed epochs: 5, tiny 2")
    parser.add_argument(
        "--threads",
        type=int,
        default=min(8, len(os.sched_getaffinity(0))),
        help="of the training job, data loaders included: at most 8 of those there are",
    )
    chosen = parser.parse_args(arguments)
    for name in chosen.systems:
        if name not in SYSTEMS:
            parser.error(f"there is no system '{name}'; there are {', '.join(SYSTEMS)}")
    if chosen.tiny:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        print("skipped: this benchmark needs a GPU and a CUDA build of torch; --tiny tests it")
        return
    steps = chosen.steps or (3 if chosen.tiny else 20)
    epochs = chosen.epochs or (2 if chosen.tiny else 5)
    threads = 1 if chosen.tiny else chosen.threads
    if steps < 2:
        parser.error("--steps must be at least 2: the first of an epoch is not timed")
    dtype = torch.bfloat16 if uses_bf16(TrainingSettings()) else torch.float32
    square = 256 if chosen.tiny else 8192
    most = ceiling(square, dtype)
    device = "CPU" if chosen.tiny else torch.cuda.get_device_name(0)
    print(f"{device}, torch {torch.__version__}, {threads} threads, {epochs} x {steps} steps")
    print(f"product of {square} x {square} matrices, {dtype}: {most / 1e12:.3f} TFLOP/s")
    print(
        f"{'system':18} {'trained':>9} {'parameters':>10} {'batch':>7} {'utterances/s':>12} {'s, token/s':>10} {'TFLOP/s':>8}"
        f" {'utilisation':>11} {'waiting':>7} {'peak GB':>7} {'hours':>7} {'loss':>7}"
    )
    for name in chosen.systems or SYSTEMS:
        system = SYSTEMS[name]
        if chosen.tiny:
            small = system.settings["training"] | {"batch_size": 2}
            short = {"prompt": "{text}"} if "prompt" in system.settings else {}
            system = replace(system, settings=system.settings | short | {"training": small})
        if chosen.graphs and not system.recordable:
            print(f"{name:18} skipped: its steps cannot be recorded as CUDA graphs")
            continue
        changed: dict[str, Any] = {"cuda_graphs": chosen.graphs}
        if chosen.batch_size:
            changed["batch_size"] = chosen.batch_size
        changed = {"training": system.settings["training"] | changed, "compile": chosen.compiled}
        system = replace(system, settings=system.settings | changed)
        with tempfile.TemporaryDirectory() as scratch:
            write_model(system.model, Path(scratch), chosen.tiny)
            try:
                found = measure(
                    system, Path(scratch), steps, epochs, threads, not chosen.no_dropout
                )
            except torch.OutOfMemoryError:
                found = None
        print(f"{name:18} {found.row(system, most) if found else 'out of memory'}", flush=True)
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(*sys.argv[1:])
