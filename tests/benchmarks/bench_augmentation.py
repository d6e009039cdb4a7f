"""Cost of each kind of augmentation, on chunks of EmoDB with real noises and rooms.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_augmentation.py [DATA]

DATA holds emodb/wav, noise and rir. Beside each kind: how many utterances a second of training that is,
and the Wav2Vec2-BERT front end, which every training example goes through anyway.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

import tiny_models
from runs import DATA
from serflow.audio import SAMPLE_RATE
from serflow.augmenter import Augmenter
from serflow.batching import Draw
from serflow.config.families.augmentation import AugmentationSettings
from serflow.nets.encoders import FrontEnd
from toy_examples import sounds

SECONDS = 3
ROUNDS = 5
KINDS = ("speed", "time_stretch", "pitch_shift", "rirs", "noises", "white_noise")


def read(file: Path) -> np.ndarray:
    """First channel at 16 kHz."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return soxr.resample(samples[:, 0], rate, SAMPLE_RATE)


def milliseconds(work: Callable[[int], object], n: int) -> float:
    """Median over rounds of the time of an example."""
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for i in range(n):
            work(i)
        took.append((time.perf_counter() - start) / n)
    return 1000 * float(np.median(took))


def main() -> None:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    files = sorted((data / "emodb" / "wav").glob("*.wav"))[:60]
    if not files or not (data / "noise").is_dir():
        print(f"skipped: {data} lacks emodb/wav or noise; give the folder as the argument")
        return
    chunks = [np.resize(read(file), SECONDS * SAMPLE_RATE) for file in files]
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        mixed_in = {
            "musan": sounds(
                folder / "musan", {"noise": {f.stem: read(f) for f in (data / "noise").iterdir()}}
            ),
            "rirs_noises": sounds(
                folder / "rirs",
                {"simulated_rir": {f.stem: read(f) for f in (data / "rir").iterdir()}},
            ),
        }
        front_end = FrontEnd(str(tiny_models.w2v_bert(folder / "model", bins=80)))
        print(f"{len(chunks)} chunks of {SECONDS} s, one thread, median of {ROUNDS} rounds")
        for kind in KINDS:
            block = {kind: {"probability": 1.0}}
            augment = Augmenter(AugmentationSettings.model_validate(block), mixed_in, 1)
            augment(chunks[0], Draw(0, 0, 0, 0))
            took = milliseconds(lambda i, a=augment: a(chunks[i], Draw(0, i, i, i)), len(chunks))
            print(f"  {kind:12s} {took:6.2f} ms an utterance")
        took = milliseconds(lambda i: front_end(chunks[i]), len(chunks))
        print(f"  {'front end':12s} {took:6.2f} ms an utterance")


if __name__ == "__main__":
    main()
