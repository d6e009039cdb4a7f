"""A whole training job in a process of its own, to be killed, or asked to end, at a chosen batch."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

import tiny_models
from serflow import preemption, training
from serflow.systems.interface import build
from toy_examples import context, noises_and_rirs, sentences, tones

STEPS_PER_EPOCH = 3
TRAINING = {
    "epochs": 8,
    "batch_size": 4,
    "accumulation": 2,
    "learning_rate": 1e-3,
    "select": "best",
    "balanced_sampling": True,
}
# Everything that draws random numbers or keeps state, at once.
SPEECH = {
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
    "training": TRAINING,
}
SHORT = TRAINING | {"epochs": 2}
LORA = {"rank": 2, "alpha": 2, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
SETTINGS = {
    "speech_classifier": SPEECH,
    "two_phases": SPEECH
    | {"training": SHORT, "further_phases": [{"training": SHORT | {"select": "last"}}]},
    "text_classifier": {"adaptation": "lora", "lora": LORA, "training": SHORT},
    "prompted_lm": {
        "prompt": "say {text}",
        "plain_template": "{prompt} so",
        "adaptation": "lora",
        "lora": LORA,
        "training": SHORT | {"select": "last"},
    },
}
MODELS = {
    "speech_classifier": tiny_models.w2v_bert,
    "text_classifier": tiny_models.llama,
    "prompted_lm": tiny_models.gemma,
}


def family_of(name: str) -> str:
    """The family of one of the SETTINGS."""
    return "speech_classifier" if name == "two_phases" else name


def make_model(name: str, folder: Path) -> Path:
    """The tiny checkpoint that a system starts from."""
    return MODELS[family_of(name)](folder)


def run(folder: Path, model: Path, name: str, pause_at: int | None) -> None:
    """Train, and write posteriors.npy, facts and all that is printed into `folder`.

    The process waits for a signal once it has fetched `pause_at` batches, and says so by a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("a") as log:
        os.dup2(log.fileno(), 2)
    preemption.watch()
    if pause_at is not None:
        _pause(folder / f"paused-{pause_at}", pause_at)
    sizes = ((1, 24), (2, 9), (3, 9))
    if family_of(name) == "speech_classifier":
        train, dev, test = (tones(folder / str(seed), n, seed) for seed, n in sizes)
    else:
        train, dev, test = (sentences(n, seed) for seed, n in sizes)
    surroundings = context(folder, sounds=noises_and_rirs(folder))
    system = build(family_of(name), SETTINGS[name] | {"model": str(model)}, surroundings)
    system.fit(train, dev)
    facts = system.facts_
    (folder / "resumed").write_text(str(facts["resumed_at_step"]))
    (folder / "losses").write_text(repr([facts["loss_history"], facts["dev_history"]]))
    np.save(folder / "posteriors.npy", system.predict(test.without_labels()).log_proba)


def start(
    folder: Path, model: Path, name: str = "speech_classifier", pause_at: int | None = None
) -> BaseProcess:
    """Start `run` in a fresh process: forked from a server that has only imported the library."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["toy_job", *(f"serflow.systems.{family}" for family in MODELS)],
    )
    process = server.Process(target=run, args=(folder, model, name, pause_at))
    process.start()
    return process


def _pause(file: Path, batch: int) -> None:
    collate, fetched = training._Examples.collate, 0

    def slow(self, examples):
        nonlocal fetched
        fetched += 1
        if fetched == batch:
            file.write_text(str(os.getpid()))
            while preemption.asked() is None:
                time.sleep(0.001)
        return collate(self, examples)

    training._Examples.collate = slow
