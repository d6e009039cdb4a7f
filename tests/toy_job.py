"""A whole training job in a process of its own, to be killed, or asked to end, at a chosen batch."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

import tiny_models
from serflow import launch, preemption
from serflow.attributes import Scale
from serflow.systems.interface import Examples, build
from serflow.training.trainer import TrainingExamples
from toy_examples import context, noises_and_rirs, rated, sentences, tones

STEPS_PER_EPOCH = 3
SCALE = Scale(("arousal", "valence"), 1.0, 7.0)
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
# Nothing that draws at random in the network, so that processes and one process learn the same.
QUICK = TRAINING | {"epochs": 3}
STILL = {"rank": 2, "alpha": 2, "dropout": 0.0}
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
    "still_speech": SPEECH
    | {
        "lora": STILL | {"target_modules": ["linear_q", "linear_v"]},
        "head": {"hidden": 8, "bottleneck": 4},  # with batch normalisation
        "predicts": "both",  # the loss of attributes is no mean over rows
        "training": QUICK | {"class_weights": "inverse"},
    },
    "still_text": {
        "adaptation": "lora",
        "lora": STILL | {"target_modules": ["q_proj", "v_proj"]},
        "training": QUICK | {"learning_rate": 1e-2},
    },
}
SETTINGS["still_text_in_4_bits"] = SETTINGS["still_text"] | {"quantisation": "nf4"}
MODELS = {
    "speech_classifier": tiny_models.w2v_bert,
    "text_classifier": tiny_models.llama,
    "prompted_lm": tiny_models.gemma,
}


def family_of(name: str) -> str:
    """The family of one of the SETTINGS."""
    return {
        "two_phases": "speech_classifier",
        "still_speech": "speech_classifier",
        "still_text": "text_classifier",
        "still_text_in_4_bits": "text_classifier",
    }.get(name, name)


def make_model(name: str, folder: Path) -> Path:
    """The tiny checkpoint that a system starts from."""
    MODELS[family_of(name)](folder)
    if name == "still_speech":
        config = json.loads((folder / "config.json").read_text())
        config["conformer_conv_dropout"] = 0.0
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def run(
    folder: Path,
    model: Path,
    name: str,
    pause_at: int | None = None,
    gpus: int = 1,
    distributed: str = "ddp",
) -> None:
    """Train, and write posteriors.npy, facts and all that is printed into `folder`.

    The process waits for a signal once it has fetched `pause_at` batches, and says so by a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if launch.rank() == 0:
        with (folder / "log").open("a") as log:
            os.dup2(log.fileno(), 2)
    preemption.watch()
    if pause_at is not None:
        _pause(folder / f"paused-{pause_at}", pause_at)
    own = folder / f"rank-{launch.rank()}"
    train, dev, test = examples(name, own)
    surroundings = context(folder, sounds=noises_and_rirs(own), scale=SCALE)
    system = build(family_of(name), settings(name, gpus, distributed, model), surroundings)
    system.fit(train, dev)
    facts, predicted = system.facts_, system.predict(test.without_labels())
    if launch.rank():
        return
    (folder / "resumed").write_text(str(facts["resumed_at_step"]))
    losses = {"train": facts["loss_history"], "dev": facts["dev_history"]}
    (folder / "losses").write_text(json.dumps(losses))
    system.save(folder / "system")
    np.save(folder / "posteriors.npy", predicted.log_proba)
    if predicted.attributes is not None:
        np.save(folder / "attributes.npy", predicted.attributes)


def examples(name: str, folder: Path) -> list[Examples]:
    """Train, dev and test rows of a system, always the same."""
    sizes = ((1, 24), (2, 9), (3, 9))
    if family_of(name) == "speech_classifier":
        return [rated(tones(folder / str(seed), n, seed)) for seed, n in sizes]
    return [sentences(n, seed) for seed, n in sizes]


def settings(name: str, gpus: int, distributed: str, model: Path) -> dict[str, Any]:
    """Settings of a system that so many GPUs train together."""
    block = SETTINGS[name] | {"model": str(model)}
    if gpus > 1:
        training = block["training"] | {"distributed": distributed}
        block |= {"gpus": gpus, "resources": "multi-gpu", "training": training}
    return block


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


def start_together(
    folder: Path,
    model: Path,
    name: str,
    distributed: str = "ddp",
    gpus: int = 2,
    pause_at: int | None = None,
) -> subprocess.Popen:
    """Start `run` in several processes, below one that is returned."""
    arguments = [folder, model, name, pause_at or 0, gpus, distributed]
    environment = os.environ | {"PYTHONPATH": str(Path(launch.__file__).parents[1])}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def main(folder: str, model: str, name: str, pause_at: str, gpus: str, distributed: str) -> None:
    """What `start_together` runs: as the script of a fold does."""
    if int(gpus) > 1 and not launch.is_worker():
        launch.run([sys.executable, *sys.argv], int(gpus), 1)
    else:
        pause = int(pause_at) or None
        run(Path(folder), Path(model), name, pause, int(gpus), distributed)


def _pause(file: Path, batch: int) -> None:
    collate, fetched = TrainingExamples.collate, 0

    def slow(self, examples, **options):
        nonlocal fetched
        fetched += 1
        if fetched == batch:
            if launch.rank() == 0:
                file.write_text(str(os.getpid()))
            while preemption.asked() is None:
                time.sleep(0.001)
        return collate(self, examples, **options)

    TrainingExamples.collate = slow


if __name__ == "__main__":
    main(*sys.argv[1:])
