"""Synthetic speech: eSpeak NG from its wheel through ctypes, the same bytes for the same seed.

eSpeak carries state from one utterance to the next (its random numbers, its wave buffer), so a
sound would depend on what was spoken before it. Here every utterance is spoken in a child process,
forked from a parent that has loaded the engine and never spoken: the result depends on nothing but
the text, the manner and the seed, however many children run at once.
"""

from __future__ import annotations

import ctypes
import os
import wave
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

TREMOR_HZ = 7.0
SYNCHRONOUS, DO_NOT_EXIT, UTF8 = 2, 0x8000, 1
RATE, VOLUME, PITCH, RANGE, WORD_GAP = 1, 2, 3, 4, 7  # espeak_PARAMETER
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Manner:
    """How an utterance is spoken.

    Attributes
    ----------
    voice : str
        eSpeak voice and variant, such as 'en+f3'.
    rate : int
        Words a minute, 80 to 450; eSpeak's own is 175.
    pitch, pitch_range : int
        0 to 99; eSpeak's own is 50.
    volume : int
        0 to 100.
    word_gap : int
        Pause between words, in units of 10 ms.
    tremor : float
        Depth of a 7 Hz modulation of the amplitude, 0 to 1.
    noise_db : float
        Level of the white noise floor, dBFS.
    """

    voice: str
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50
    volume: int = 100
    word_gap: int = 0
    tremor: float = 0.0
    noise_db: float = -60.0


@dataclass(frozen=True)
class Utterance:
    """One sound file to be made."""

    path: Path
    text: str
    manner: Manner
    seed: int


@lru_cache(maxsize=1)
def _engine() -> tuple[ctypes.CDLL, int]:
    """Load eSpeak once per process; return the library and its sample rate."""
    import espeakng_loader

    engine = ctypes.CDLL(espeakng_loader.get_library_path())
    data = os.fsencode(espeakng_loader.get_data_path())
    sample_rate = engine.espeak_Initialize(SYNCHRONOUS, 0, data, DO_NOT_EXIT)
    if sample_rate <= 0:
        raise RuntimeError(f"eSpeak NG does not start with its data in {os.fsdecode(data)}")
    engine.espeak_SetVoiceByName(b"en")  # the dictionary is read here once, not in every child
    return engine, sample_rate


def _speak(text: str, manner: Manner, seed: int) -> np.ndarray:
    """Samples (int16) of `text`; to be called once in a process."""
    engine, sample_rate = _engine()
    pieces: list[np.ndarray] = []

    @CALLBACK
    def collect(samples, count, events):
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    engine.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    engine.espeak_SetSynthCallback(collect)
    if engine.espeak_SetVoiceByName(manner.voice.encode()):
        raise RuntimeError(f"eSpeak NG has no voice {manner.voice!r}")
    for parameter, value in (
        (RATE, manner.rate),
        (VOLUME, manner.volume),
        (PITCH, manner.pitch),
        (RANGE, manner.pitch_range),
        (WORD_GAP, manner.word_gap),
    ):
        engine.espeak_SetParameter(parameter, int(value), 0)
    encoded = text.encode()
    size = ctypes.c_size_t(len(encoded) + 1)
    engine.espeak_Synth(encoded, size, 0, 0, 0, UTF8, None, None)
    speech = np.concatenate(pieces).astype(np.float64)
    phase = 2 * np.pi * TREMOR_HZ * np.arange(len(speech)) / sample_rate
    speech *= 1 - manner.tremor * (0.5 + 0.5 * np.cos(phase))
    floor = np.random.default_rng(seed).standard_normal(len(speech))
    speech += floor * 32768 * 10 ** (manner.noise_db / 20)
    return np.clip(np.round(speech), -32768, 32767).astype("<i2")


def _write(utterance: Utterance) -> None:
    samples = _speak(utterance.text, utterance.manner, utterance.seed)
    with wave.open(os.fspath(utterance.path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_engine()[1])
        file.writeframes(samples.tobytes())


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)  # no exit handlers of the parent, no second flush of its buffers


def render(utterances: Iterable[Utterance], workers: int | None = None) -> None:
    """Write one 16-bit mono WAV file for each utterance, `workers` at a time.

    The sample rate is eSpeak's own, 22,050 Hz. The folders must be there.
    """
    workers = workers or os.cpu_count() or 1
    _engine()  # loaded before the forks, so that every child starts from the same state
    running: dict[int, Utterance] = {}

    def wait_for_one() -> None:
        # Only our own children: the caller may have others.
        child = next(iter(running))
        utterance = running.pop(child)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"eSpeak NG failed on {utterance}")

    try:
        for utterance in utterances:
            if len(running) >= workers:
                wait_for_one()
            running[_fork(lambda job=utterance: _write(job))] = utterance
    finally:
        while running:
            wait_for_one()
