"""Toy utterances whose class is plain to hear (melody) or to read (one word)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from serflow.attributes import Scale
from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.context import Context
from serflow.sounds import Sounds
from serflow.systems.interface import Examples
from serflow.tables import AUDIO_INDEX
from tiny_models import WORDS

CLASSES = ("angry", "happy", "sad")
PITCHES = (300.0, 2500.0)


def audio_store(folder: Path, waves: dict[str, np.ndarray]) -> AudioStore:
    """A packed store of float waves in [-1, 1]."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = np.cumsum([len(wave) for wave in waves.values()])
    sizes = [len(wave) for wave in waves.values()]
    index = pd.DataFrame({"utterance_id": list(waves), "offset": ends - sizes, "samples": sizes})
    AUDIO_INDEX.write(index, folder / "index.parquet")
    samples = np.concatenate(list(waves.values())) * 32767
    samples.astype("<i2").tofile(folder / "samples.i16")
    return AudioStore([(folder / "samples.i16", folder / "index.parquet")])


def tones(folder: Path, n: int, seed: int, seconds: tuple[float, float] = (0.3, 0.9)) -> Examples:
    """A rising or falling line of two tones, or bursts of one: the melody tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % len(CLASSES))
    waves = {}
    for i, label in enumerate(labels):
        t = np.arange(int(SAMPLE_RATE * rng.uniform(*seconds))) / SAMPLE_RATE
        # Per-utterance normalisation of features hides what is constant over time, so pitch moves.
        low, high = rng.uniform(0.9, 1.1, 2) * PITCHES
        later = t > t[-1] / 2
        pitch = np.select(
            [label == 0, label == 1], [np.where(later, high, low), np.where(later, low, high)], low
        )
        level = 0.3 * (later if label == 2 else 1)
        waves[f"u{i}"] = level * np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
        waves[f"u{i}"] += 0.01 * rng.standard_normal(len(t))
    return speech_examples(folder, waves, labels)


def speech_examples(folder: Path, waves: dict[str, np.ndarray], labels) -> Examples:
    """Examples with audio."""
    return Examples(
        utterance_ids=list(waves),
        labels=labels,
        speakers=np.full(len(waves), "s"),
        audio=audio_store(folder, waves),
    )


def sentences(n: int, seed: int) -> Examples:
    """Random words with one telling word somewhere; a few are empty."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % len(CLASSES))
    telling = ("rage", "joy", "awful")
    texts = []
    for label in labels:
        words = [WORDS[k] for k in rng.integers(0, 7, rng.integers(1, 9))]
        words.insert(rng.integers(len(words) + 1), telling[label])
        texts.append(" ".join(words))
    return text_examples(texts, labels)


def rated(examples: Examples, seed: int = 0) -> Examples:
    """The examples with arousal and valence, on a scale of 1 to 7, that follow their class."""
    noise = np.random.default_rng(seed).normal(0, 0.3, (len(examples), 2))
    means = np.array([[6.0, 2.0], [5.0, 6.0], [2.0, 3.0]])
    return replace(examples, attributes=np.clip(means[examples.labels] + noise, 1, 7))


def text_examples(texts: list[str], labels) -> Examples:
    """Examples with transcripts."""
    return Examples(
        utterance_ids=[f"u{i}" for i in range(len(texts))],
        labels=None if labels is None else np.asarray(labels),
        speakers=np.full(len(texts), "s"),
        texts=texts,
    )


def sounds(folder: Path, waves: dict[str, dict[str, np.ndarray]]) -> Sounds:
    """A corpus of sounds: kind -> name -> wave."""
    store = audio_store(folder, {n: wave for kind in waves.values() for n, wave in kind.items()})
    rows = [(n, kind, f"digest-{n}") for kind, named in waves.items() for n in named]
    columns = ["utterance_id", "label_raw", "audio_digest"]
    return Sounds(folder.name, store, pd.DataFrame(rows, columns=columns))


def noises_and_rirs(folder: Path, seed: int = 0) -> dict[str, Sounds]:
    """Five noises and five rooms, under the names of the corpora that have real ones."""
    rng = np.random.default_rng(seed)
    noises = {f"n{i}": 0.1 * rng.uniform(-1, 1, 2000 * (i + 1)) for i in range(5)}
    rooms = {}
    for i in range(5):
        rooms[f"r{i}"] = 0.3 * rng.uniform(-1, 1, 1500) * np.exp(-np.arange(1500) / 300)
        rooms[f"r{i}"][40 * i] = 0.9
    return {
        "musan": sounds(folder / "musan", {"noise": noises, "music": {"m": noises["n4"][::2]}}),
        "rirs_noises": sounds(folder / "rirs_noises", {"simulated_rir": rooms}),
    }


def context(
    folder: Path,
    seed: int = 1,
    classes: tuple[str, ...] = CLASSES,
    sounds: dict[str, Sounds] | None = None,
    scale: Scale | None = None,
) -> Context:
    """A job's surroundings: one thread, so that results repeat bit for bit."""
    checkpoints = folder / "checkpoints"
    return Context(classes, seed, checkpoints, threads=1, sounds=sounds or {}, scale=scale)


def accuracy(log_proba: np.ndarray, examples: Examples) -> float:
    """Share of right decisions."""
    return float((log_proba.argmax(axis=1) == examples.labels).mean())
