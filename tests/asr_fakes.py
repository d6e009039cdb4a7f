"""Some speech, and what stands for a store, an engine and a voice detector in tests of ASR."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr

from serflow.asr.engine import Settings, load_engine
from serflow.asr.transcribe import transcribe_shard
from serflow.demo.espeak import Manner, Utterance, render
from serflow.errors import UserError

SENTENCES = (
    "the letter came today how dare you",
    "my brother called again i love it",
    "they opened the door please help me",
    "do you remember this smells rotten",
)
VOICES = ("en+f2", "en+m3", "en+m7")
SECOND = 16_000


class Memory:
    """An audio store in memory that remembers whether it was read."""

    def __init__(self, audio: dict[str, np.ndarray]) -> None:
        self.audio = audio
        self.reads = 0

    def __contains__(self, name: str) -> bool:
        return name in self.audio

    def samples(self, name: str) -> np.ndarray:
        self.reads += 1
        return self.audio[name]


class Fake:
    """An engine that says how long its inputs are, and fails on loud ones."""

    facts = {"device": "none"}

    def __init__(self, memory_s: float = float("inf")) -> None:
        self.batches: list[int] = []
        self.asked: list[str] = []
        self.memory_s = memory_s

    def transcribe(self, batch, language):
        self.batches.append(len(batch))
        self.asked.append(language)
        if len(batch) * max(map(len, batch)) > self.memory_s * SECOND:
            raise MemoryError("too much")
        if any(samples.max() > 0.9 for samples in batch):
            raise ValueError("too loud")
        return [f"<|en|> {len(samples) // SECOND}  seconds<|endoftext|>" for samples in batch]


class AllVoices:
    """Hears a voice in everything."""

    def scores(self, batch, enough):
        return [1.0] * len(batch)


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    """Noise that swells, as a steady one is taken for a hum."""
    n = round(seconds * SECOND)
    swell = np.linspace(0.2, 1, n)
    return (level * swell * np.random.default_rng(n).uniform(-1, 1, n)).astype(np.float32)


def shard_table(store: Memory, *absent: str, language: str = "en") -> pd.DataFrame:
    """`tables.SHARD` of all that is in a store, and of some that is not."""
    names = [*store.audio, *absent]
    silence = np.zeros(0, np.float32)
    samples = [store.audio.get(name, silence) for name in names]
    return pd.DataFrame(
        {
            "utterance_id": names,
            "language": language,
            "seconds": [len(x) / SECOND for x in samples],
            "audio_digest": [hashlib.sha256(x.tobytes()).hexdigest() for x in samples],
        }
    )


def assert_refused(settings: Settings, journal: Path, message: str) -> None:
    """The engine refuses in one line, before any audio is read."""
    store = Memory({"a": noise(1)})
    with pytest.raises(UserError, match=message) as caught:
        transcribe_shard(store, shard_table(store), load_engine, AllVoices, journal, settings)
    assert store.reads == 0
    assert "\n" not in str(caught.value)


def spoken(folder: Path) -> dict[str, tuple[np.ndarray, str]]:
    """Twelve spoken utterances with their texts."""
    jobs = [
        Utterance(folder / f"{voice[3:]}-{i}.wav", text, Manner(voice, rate=170), i)
        for voice in VOICES
        for i, text in enumerate(SENTENCES)
    ]
    render(jobs)
    found = {}
    for job in jobs:
        samples, rate = soundfile.read(job.path, dtype="float32")
        found[job.path.stem] = (soxr.resample(samples, rate, SECOND), job.text)
    return found
