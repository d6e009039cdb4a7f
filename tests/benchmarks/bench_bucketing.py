"""Training speed of length-bucketed against random batches, on EmoDB's real lengths.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_bucketing.py [EMODB]

Both orders train the same tiny Wav2Vec2-BERT on the same 535 utterances, batch size 16, one thread,
on features extracted beforehand; epochs alternate, so that a busy machine slows both alike.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

import tiny_models
from runs import DATA
from serflow.batching import Batches
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.heads import DenseHead
from serflow.nets.pooling import build_pooling
from serflow.nets.speech import SpeechNet
from serflow.systems.speech_inputs import Spans

EMODB = DATA / "emodb"
BATCH_SIZE = 16
EPOCHS = 3
CLASSES = {letter: i for i, letter in enumerate("WLEAFTN")}


class Waves:
    """The corpus in memory, with AudioStore's face."""

    def __init__(self, files: list[Path]) -> None:
        self._waves = {file.stem: soundfile.read(file, dtype="float32")[0] for file in files}

    def samples(self, name: str) -> np.ndarray:
        return self._waves[name]

    def spans(self) -> list[tuple[str, int, int]]:
        return [(name, 0, len(wave)) for name, wave in self._waves.items()]


def epoch(net: SpeechNet, inputs: Spans, labels: np.ndarray, batches: Batches) -> tuple[float, int]:
    """Train one epoch; seconds, and input frames including padding."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net.train()
    frames, start = 0, time.perf_counter()
    for batch in batches:
        arguments = inputs.collate([inputs.item(draw) for draw in batch])
        frames += arguments["mask"].numel()
        targets = torch.tensor([int(labels[draw.row]) for draw in batch])
        torch.nn.functional.cross_entropy(net(**arguments), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start, frames


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else EMODB
    files = sorted((folder / "wav").glob("*.wav"))
    if not files:
        print(f"skipped: there is no EmoDB in {folder}; give its folder as the argument")
        return
    torch.set_num_threads(1)
    labels = np.array([CLASSES[file.stem[5]] for file in files])
    waves = Waves(files)
    with tempfile.TemporaryDirectory() as base:
        model = str(tiny_models.w2v_bert(Path(base) / "model", hidden=64, bins=80))
        inputs = Spans(waves, waves.spans(), FrontEnd(model))
        encoder = SpeechEncoder(model)
    pooling = build_pooling("attentive_statistics", encoder.output_size, 32)
    net = SpeechNet(encoder, pooling, DenseHead(pooling.output_size, 64, len(CLASSES)))
    samplers = {
        name: Batches(labels, inputs.lengths, BATCH_SIZE, 1, bucketed=name == "bucketed")
        for name in ("bucketed", "random")
    }
    real = sum(len(inputs.item(draw)) for batch in samplers["random"] for draw in batch)
    seconds = {name: [] for name in samplers}
    padded = dict.fromkeys(samplers, 0)
    epoch(net, inputs, labels, samplers["random"])  # warms up
    for number in range(EPOCHS):
        for name, sampler in samplers.items():
            sampler.set_epoch(number)
            took, frames = epoch(net, inputs, labels, sampler)
            seconds[name].append(took)
            padded[name] += frames
    speed = {name: len(files) / float(np.median(took)) for name, took in seconds.items()}
    print(f"EmoDB, {len(files)} utterances, batch size {BATCH_SIZE}, median of {EPOCHS} epochs")
    for name in samplers:
        waste = padded[name] / EPOCHS / real - 1
        print(f"  {name:9s} {speed[name]:7.1f} utterances/s   padding {waste:6.1%}")
    print(f"  bucketed / random: {speed['bucketed'] / speed['random']:.2f} times as fast")


if __name__ == "__main__":
    main()
