"""A whole training job in a process of its own, to be killed."""

from __future__ import annotations

import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from serflow.systems.interface import build
from toy_examples import context, noises_and_rirs, tones

# Everything that draws random numbers or keeps state, at once.
SETTINGS = {
    "adaptation": "lora",
    "lora": {"rank": 2, "alpha": 2, "dropout": 0.1, "target_modules": ["linear_q", "linear_v"]},
    "head": {"hidden": 8, "bottleneck": 4, "dropout": 0.1},
    "crop": {"min_s": 0.2, "max_s": 0.5},
    "augmentation": {
        "speed": {},
        "rirs": {},
        "noises": {},
        "white_noise": {},  # the phase vocoder takes seconds to load
    },
    "training": {
        "epochs": 8,
        "batch_size": 4,
        "accumulation": 2,
        "learning_rate": 1e-3,
        "select": "best",
        "balanced_sampling": True,
    },
}
STEPS_PER_EPOCH = 3


def run(folder: Path, model: Path) -> None:
    """Train, and write posteriors.npy into `folder`."""
    train, dev, test = (tones(folder / str(seed), n, seed) for seed, n in ((1, 24), (2, 9), (3, 9)))
    surroundings = context(folder, sounds=noises_and_rirs(folder))
    system = build("speech_classifier", SETTINGS | {"model": str(model)}, surroundings)
    system.fit(train, dev)
    (folder / "resumed").write_text(str(system.facts_["resumed_at_step"]))
    np.save(folder / "posteriors.npy", system.predict(test.without_labels()).log_proba)


def start(folder: Path, model: Path) -> BaseProcess:
    """Start `run` in a fresh process: forked from a server that has only imported the library."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["toy_job", "serflow.systems.speech_classifier"])
    process = server.Process(target=run, args=(folder, model))
    process.start()
    return process
