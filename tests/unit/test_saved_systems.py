"""A trained system on disk is whole: another process gets the same posteriors from it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import tiny_models
from runs import ROOT
from serflow.errors import UserError
from serflow.systems import saved
from serflow.systems.interface import build
from toy_examples import context, sentences, tones

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["linear_q", "linear_v"]}
TRAINING = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2}
RELOADED = """
import pickle, sys
from pathlib import Path
import numpy as np
from serflow.systems.saved import load

for folder in map(Path, sys.argv[1:]):
    system = load(folder / "saved", [str(folder / "moved")])
    test = pickle.loads((folder / "test.pickle").read_bytes())
    found = {"posteriors": system.predict(test).log_proba, "prior": system.train_prior_}
    if hasattr(system, "embed"):
        found["embeddings"] = system.embed(test)
    np.savez(folder / "found.npz", **found)
"""


def speech_system(folder, make=tiny_models.w2v_bert, **changes):
    """A trained speech classifier, and what it is tested on."""
    block = {
        "family": "speech_classifier",
        "model": str(make(folder / "model")),
        "head": {"bottleneck": 8, "hidden": 16},
        "training": TRAINING,
    }
    system = build("speech_classifier", block | changes, context(folder))
    return system.fit(tones(folder / "train", 24, seed=1), None), tones(folder / "test", 12, seed=2)


def text_system(folder, **changes):
    """A trained text classifier, and what it is tested on."""
    block = {"family": "text_classifier", "model": str(tiny_models.llama(folder / "model"))}
    system = build("text_classifier", block | {"training": TRAINING} | changes, context(folder))
    return system.fit(sentences(24, seed=1), None), sentences(12, seed=2)


def prompted_system(folder, **changes):
    """A language model that answers with a word, and what it is tested on."""
    block = {
        "family": "prompted_lm",
        "model": str(tiny_models.gemma(folder / "model")),
        "prompt": "Which emotion is this: {text}",
        "words": {"happy": "joyful"},
    }
    system = build("prompted_lm", block | changes, context(folder))
    return system.fit(sentences(24, seed=1), None), sentences(12, seed=2)


WHISPER = {"adaptation": "full", "max_seconds": 2.0}
TEXT_LORA = {"adaptation": "lora", "lora": LORA | {"target_modules": ["q_proj", "v_proj"]}}
SYSTEMS = {
    "speech full": partial(speech_system, adaptation="full"),
    "speech lora": partial(speech_system, adaptation="lora", lora=LORA),
    "speech adapters": partial(speech_system, adaptation="adapters", adapters={"size": 4}),
    "speech frozen": partial(speech_system, adaptation="frozen"),
    "speech random": partial(speech_system, adaptation="full", initial="random"),
    "speech whisper": partial(speech_system, make=tiny_models.whisper, **WHISPER),
    "speech emotion2vec": partial(
        speech_system, make=tiny_models.emotion2vec, adaptation="frozen", max_seconds=2.0
    ),
    "text full": partial(text_system, adaptation="full"),
    "text lora": partial(text_system, **TEXT_LORA),
    "text in 4 bits": partial(text_system, quantisation="nf4", **TEXT_LORA),
    "prompted lora": partial(prompted_system, training=TRAINING, **TEXT_LORA),
    "prompted in 4 bits": partial(
        prompted_system, training=TRAINING, quantisation="nf4", **TEXT_LORA
    ),
    "prompted full": partial(prompted_system, training=TRAINING, adaptation="full"),
    "prompted zero-shot": partial(prompted_system, adaptation="frozen"),
    "prompted colliding": partial(
        prompted_system, words={"happy": "sadder", "sad": "sadly"}, training=TRAINING, **TEXT_LORA
    ),
}


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Every kind of system, saved; and read by another process, the pretrained model elsewhere."""
    base = tmp_path_factory.mktemp("saved")
    expected = {}
    for name, make in SYSTEMS.items():
        folder = base / name
        folder.mkdir()
        system, test = make(folder)
        test = test.without_labels()
        system.save(folder / "saved")
        (folder / "test.pickle").write_bytes(pickle.dumps(test))
        expected[name] = {
            "posteriors": system.predict(test).log_proba,
            "prior": system.train_prior_,
        }
        if hasattr(system, "embed"):
            expected[name]["embeddings"] = system.embed(test)
        (folder / "model").rename(folder / "moved")
    folders = [base / name for name in SYSTEMS]
    paths = os.pathsep.join([str(ROOT / "workflow/scripts"), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", RELOADED, *folders], env=environment, check=True)
    return {folder.name: (expected[folder.name], folder) for folder in folders}


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_comes_back_bit_for_bit_in_another_process(name, moved):
    """Adapter, pooling, head, batch normalisation, front end, tokenizer: none may be missing."""
    expected, folder = moved[name]
    found = np.load(folder / "found.npz")
    assert set(found) == set(expected)
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values, err_msg=key)
    assert ("embeddings" in found) == name.startswith("speech")


@pytest.mark.parametrize("name", SYSTEMS)
def test_nothing_in_it_can_run(name, moved):
    files = {file.name for file in (moved[name][1] / "saved").iterdir()}
    assert {"system.json", "trained.safetensors"} <= files
    assert not [file for file in files if file.endswith((".bin", ".pt", ".pkl", ".py"))]


def test_a_folder_without_a_system_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"holds no trained system .* expected system\.json"):
        saved.load(tmp_path)


def test_a_family_that_is_not_stored_says_so(tmp_path):
    saved.write_record(tmp_path, {"family": "functionals"}, context(tmp_path), np.ones(3) / 3)
    with pytest.raises(UserError, match="functionals are not stored"):
        saved.load(tmp_path)
