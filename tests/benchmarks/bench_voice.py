"""How fast voices are found, what real speech is lost, and what of other sounds passes.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_voice.py

Speech: all of EmoDB, RAVDESS Actor_01 and CREMA-D samples, as recorded and altered. Speed is in
seconds of speech per second of one thread's processor time, for the package's own model (one chunk
a call) and ours, whose probabilities are compared. Other sounds: 30 recordings of ESC-50, three
impulse responses, and synthetic ones of 0.5, 2 and 6 s, each kind four times, all at -20, -40 and
-55 dBFS RMS; digital silence, one click in it, dither; and the pauses of the recordings, repeated.
All samples are rounded to 16 bits, as the store keeps them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from unittest import mock

import librosa
import numpy as np
import soundfile
import soxr
import torch
from scipy.signal import fftconvolve, lfilter

from runs import DATA
from serflow.asr import voice
from serflow.asr.segments import MIN_STEADY_S, SILENCE_DB, STEADY_DB, level_db, spread_db
from serflow.asr.voice import CHUNK, CONTEXT, LEVEL, MIN_VOICE, STATE, VoiceDetector, levelled
from serflow.audio import SAMPLE_RATE
from serflow.packing import quantise

LEVELS = (-20, -40, -55)
THRESHOLDS = (0.2, 0.3, 0.4, 0.5)
QUIETEST_DB = -80.0  # an energy threshold below every voice here


def read(file: Path) -> np.ndarray:
    """Samples of a file, mono, 16 kHz."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)


def stored(samples: np.ndarray) -> np.ndarray:
    """Samples as the store gives them back."""
    return quantise(np.array(samples, np.float32))[0].astype(np.float32) / 32768


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) + 1e-12


def at(samples, decibel):
    """Samples at an RMS level, dBFS."""
    return samples / rms(samples) * 10 ** (decibel / 20)


def coloured(count, slope, rng):
    """Noise whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequencies = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 20)
    return np.fft.irfft(spectrum / frequencies ** (slope / 2), count)


def hum(count, pitch, rng):
    """A pitch and six overtones."""
    turns = pitch * np.arange(count) / SAMPLE_RATE
    return sum(np.sin(2 * np.pi * (k * turns + rng.random())) / k for k in range(1, 8))


def with_noise(samples, other, decibel):
    """Samples with another sound at a signal-to-noise ratio."""
    return samples + at(other, 20 * np.log10(rms(samples)) - decibel)


def noisy(samples, decibel, slope=0):
    rng = np.random.default_rng(len(samples))
    return with_noise(samples, coloured(len(samples), slope, rng), decibel)


def whispered(samples, order=18):
    """Speech whose excitation is noise: linear prediction in frames of 32 ms."""
    rng = np.random.default_rng(0)
    window = np.hanning(CHUNK)
    out = np.zeros(len(samples))
    for start in range(0, len(samples) - CHUNK, CHUNK // 2):
        frame = samples[start : start + CHUNK].astype(float) * window
        if rms(frame) > 1e-5:
            filtered = librosa.lpc(frame + 1e-9 * rng.standard_normal(CHUNK), order=order)
            excitation = rng.standard_normal(CHUNK) * rms(lfilter(filtered, [1], frame))
            out[start : start + CHUNK] += lfilter([1], filtered, excitation) * window
    return 0.7 * out


def slammed(samples):
    """Speech 30 dB down with a loud bang of 0.1 s in it."""
    out = samples * 10**-1.5
    out[len(out) // 3 :][:1600] += 0.3 * np.random.default_rng(0).standard_normal(1600)
    return out


def beginning(samples, seconds):
    """The first part of what is spoken, from 0.1 s before it."""
    frames = np.square(samples[: len(samples) // 400 * 400].reshape(-1, 400)).mean(axis=1)
    start = max(0, 400 * int(np.flatnonzero(frames > 0.02 * frames.max())[0]) - 1600)
    return samples[start:][: int(seconds * SAMPLE_RATE)]


def alterations(room):
    quiet = 10**-1.5
    return {
        "as recorded": lambda x: x,
        "-30 dB": lambda x: x * quiet,
        "white noise, 10 dB": lambda x: noisy(x, 10),
        "pink noise, 10 dB": lambda x: noisy(x, 10, 1),
        "-30 dB, white noise, 10 dB": lambda x: noisy(x, 10) * quiet,
        "-30 dB, pink noise, 10 dB": lambda x: noisy(x, 10, 1) * quiet,
        "white noise, 5 dB": lambda x: noisy(x, 5),
        "white noise, 0 dB": lambda x: noisy(x, 0),
        "pink noise, 0 dB": lambda x: noisy(x, 0, 1),
        "50 Hz hum, 0 dB": lambda x: with_noise(x, hum(len(x), 50, np.random.default_rng(0)), 0),
        "-30 dB, offset 0.05": lambda x: x * quiet + 0.05,
        "-30 dB, a bang": slammed,
        "20 s silence before": lambda x: np.concatenate([np.zeros(320_000, np.float32), x]),
        "clipped": lambda x: np.clip(at(x, -6), -1, 1),
        "8 kHz and back": lambda x: soxr.resample(soxr.resample(x, 16_000, 8000), 8000, 16_000),
        "whispered": whispered,
        "reverberant": lambda x: at(fftconvolve(x, room)[: len(x)], 20 * np.log10(rms(x))),
        **{f"first {s} s": lambda x, s=s: beginning(x, s) for s in (0.2, 0.3, 0.4, 0.5, 0.7, 1.0)},
    }


def synthetic(seconds, seed):
    """Sounds without a voice, by name."""
    rng = np.random.default_rng([seed, int(10 * seconds)])
    count = int(seconds * SAMPLE_RATE)
    place = np.arange(count) / SAMPLE_RATE
    steps = rng.random(int(8 * seconds) + 2)
    wander = np.interp(8 * place, np.arange(len(steps)), steps**3)
    gate = (steps[(8 * place).astype(int)] > 0.5) + 1e-3
    sounds = {}
    for slope, colour in enumerate(("white", "pink", "brown")):
        noise = coloured(count, slope, rng)
        sounds[f"{colour} noise"] = noise
        sounds["modulated noise", colour, 1] = noise * (0.55 + 0.45 * np.sin(4 * place + seed))
        sounds["modulated noise", colour, 2] = noise * (0.5 + 0.5 * np.sin(26 * place + seed))
        sounds["modulated noise", colour, 3] = noise * wander
        sounds["modulated noise", colour, 4] = noise * gate
    for pitch in (50, 60, 100, 120):
        sounds[f"{pitch} Hz hum"] = hum(count, pitch, rng)
        sounds["hum in noise", pitch] = hum(count, pitch, rng) + 0.3 * rng.standard_normal(count)
    for pitch in (220, 440, 1000, 3000):
        sounds["tones", pitch] = np.sin(2 * np.pi * pitch * place)
    sweep = np.cumsum(np.geomspace(100, 4000, count)) / SAMPLE_RATE
    sounds["tones", "sweep"] = np.sin(2 * np.pi * sweep)
    dialled = np.sin(2 * np.pi * 770 * place) + np.sin(2 * np.pi * 1336 * place)
    sounds["tones", "dialled"] = dialled * (np.sin(2 * np.pi * 2.5 * place) > 0)
    clicks = np.zeros(count)
    clicks[rng.integers(0, count, int(3 * seconds) + 1)] = 1
    sounds["clicks"] = clicks
    return {key if isinstance(key, str) else key[0] + str(key): x for key, x in sounds.items()}


def other_sounds(data: Path, speech: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Sounds without a voice, by kind."""
    kinds: dict[str, list[np.ndarray]] = {}

    def add(kind, samples, levels=LEVELS):
        samples = np.pad(samples, (0, max(0, 1600 - len(samples))))
        kinds.setdefault(kind, []).extend(stored(at(samples, level)) for level in levels)

    for seconds in (0.5, 2, 6):
        for seed in range(4):
            for name, samples in synthetic(seconds, seed).items():
                add(name.partition("(")[0], samples)
            rng = np.random.default_rng(seed)
            count = int(seconds * SAMPLE_RATE)
            click = np.zeros(count, np.float32)
            click[rng.integers(count)] = 0.5
            dither = rng.standard_normal(count) * 0.6 / 32768
            kinds.setdefault("digital silence", []).append(np.zeros(count, np.float32))
            kinds.setdefault("one click in silence", []).append(stored(click))
            kinds.setdefault("dither", []).append(stored(dither))
    for file in sorted((DATA / "rir").glob("*.wav")):
        add("impulse responses", read(file))
    for file in sorted((DATA / "noise").glob("*.ogg")):
        add("ESC-50 " + file.stem.rpartition("_")[0].replace("_", " "), read(file))
    kinds["pauses"] = [pause for samples in speech if (pause := longest_pause(samples)) is not None]
    return kinds


def longest_pause(samples):
    """The quietest 0.5 s to and fro, if it is even and 30 dB below the loudest 25 ms."""
    power = np.square(samples, dtype=np.float64)
    sums = np.convolve(power, np.ones(8000), "valid") if len(power) > 16_000 else np.zeros(1)
    start = int(sums.argmin())
    frames = power[start : start + 8000].reshape(-1, 400).mean(axis=1) if sums[start] > 0 else None
    if frames is None or frames.max() > 6 * frames.mean():
        return None
    if 10 * np.log10(frames.max()) > level_db(samples) - 30 or frames.mean() < 10**-7.5:
        return None
    pause = samples[start : start + 8000]
    return np.concatenate([pause, pause[::-1]] * 2)


def spread_of(samples):
    """Infinite where a sound is too short to be called steady."""
    return spread_db(samples) if len(samples) >= MIN_STEADY_S * SAMPLE_RATE else np.inf


def packages_probabilities(model, batch):
    """By the package's own model, shape (rows, chunks)."""
    audio = np.zeros((len(batch), -(-max(map(len, batch)) // CHUNK) * CHUNK), np.float32)
    for row, samples in zip(audio, batch, strict=True):
        row[: len(samples)] = samples
    model.reset_states()
    chunks = torch.from_numpy(audio).split(CHUNK, dim=1)
    return torch.cat([model(chunk, SAMPLE_RATE) for chunk in chunks], dim=1)


def our_probabilities(network, samples):
    """Of one utterance, shape (chunks,)."""
    padded = np.pad(samples, (CONTEXT, -len(samples) % CHUNK))
    windows = torch.from_numpy(padded).unfold(0, CONTEXT + CHUNK, CHUNK)
    state = (torch.zeros(1, 1, STATE), torch.zeros(1, 1, STATE))
    return network(windows[None], state)[0][0]


def in_batches(function, inputs, size):
    """Results, and seconds of speech per second of processor time."""
    start = time.process_time()
    results = [y for i in range(0, len(inputs), size) for y in function(inputs[i : i + size])]
    return results, sum(map(len, inputs)) / SAMPLE_RATE / (time.process_time() - start)


@torch.inference_mode()
def report_speed(detector: VoiceDetector, speech: list[np.ndarray], others) -> None:
    """Print times, and how far results of the faster ways are from those of the slow one."""
    file = distribution("silero-vad").locate_file("silero_vad/data/silero_vad.jit")
    model = torch.jit.load(str(file)).eval()
    speech = sorted(speech, key=len)
    few = [levelled(samples) for samples in speech[:: len(speech) // 64]]
    packages_probabilities(model, few[:1]), packages_probabilities(model, few[:1])
    print("seconds of speech per second of one thread")
    single, speed = in_batches(lambda b: packages_probabilities(model, b), few, 1)
    print(f"  the package's model, one utterance at a time {speed:6.0f}")
    batched, speed = in_batches(lambda b: packages_probabilities(model, b), few, 32)
    far = max(float((b[: len(s)] - s).abs().max()) for b, s in zip(batched, single, strict=True))
    print(f"  the package's model, 32 utterances at a time {speed:6.0f}  differs by {far:.1e}")
    ours = [our_probabilities(detector._network, samples) for samples in few]
    far = max(float((o - s).abs().max()) for o, s in zip(ours, single, strict=True))
    alone, speed = in_batches(detector.scores, speech, 1)
    print(f"  ours, one utterance at a time                {speed:6.0f}  differs by {far:.1e}")
    for size in (32, 128):
        scores, speed = in_batches(detector.scores, speech, size)
        far = np.abs(np.subtract(scores, alone)).max()
        print(
            f"  ours, {size:3d} utterances at a time              {speed:6.0f}  scores by {far:.1e}"
        )
        scores, speed = in_batches(lambda b: detector.scores(b, enough=MIN_VOICE), speech, size)
        differ = np.not_equal(np.array(scores) < MIN_VOICE, np.array(alone) < MIN_VOICE).sum()
        print(
            f"    heard until MIN_VOICE                      {speed:6.0f}  {differ} decide otherwise"
        )
    noises = [x for kind, sounds in others.items() for x in sounds if kind.endswith("noise")]
    _, speed = in_batches(lambda b: detector.scores(b, enough=MIN_VOICE), noises, 32)
    print(f"    on noise, heard to the end                 {speed:6.0f}")


def report_speech(detector: VoiceDetector, speech: list[np.ndarray], room: np.ndarray) -> None:
    """Print how surely voices are heard."""
    print(
        f"{len(speech)} real utterances        lowest   1 %   lost below {THRESHOLDS}; "
        f"below {SILENCE_DB:g} and {QUIETEST_DB:g} dBFS; steady, lowest spread in dB"
    )

    def report(title: str, alter: Callable, prepare: Callable = levelled) -> None:
        altered = sorted((stored(alter(samples.copy())) for samples in speech), key=len)
        with mock.patch.object(voice, "levelled", prepare):
            scores = np.array(in_batches(detector.scores, altered, 32)[0])
        levels = np.array([level_db(samples) for samples in altered])
        lost = [(scores < least).sum() for least in THRESHOLDS]
        quiet = [(levels < least).sum() for least in (SILENCE_DB, QUIETEST_DB)]
        print(f"  {title:30} {scores.min():.3f} {np.quantile(scores, 0.01):.3f} ", end="")
        spreads = np.array([spread_of(samples) for samples in altered])
        print(*(f"{count:4d}" for count in lost), " ", *(f"{count:4d}" for count in quiet), end="")
        print(f"   {(spreads < STEADY_DB).sum():4d} {spreads.min():4.1f}")

    ways = alterations(room)
    for title, alter in ways.items():
        report(title, alter)
    for title in ("as recorded", "-30 dB"):
        report(f"{title}, not levelled", ways[title], lambda x: x)
    report(
        "-30 dB, offset 0.05, kept",
        ways["-30 dB, offset 0.05"],
        lambda x: x * np.float32(LEVEL / np.abs(x - x.mean()).mean()),
    )


def report_others(detector: VoiceDetector, kinds: dict[str, list[np.ndarray]]) -> None:
    """Print what is taken for a voice."""
    print(f"other sounds            count  highest  pass {THRESHOLDS}; these and not steady")
    total, count = np.zeros((2, len(THRESHOLDS)), int), 0
    for kind, sounds in kinds.items():
        sounds = sorted(sounds, key=len)
        scores = np.array(in_batches(detector.scores, sounds, 32)[0])
        unsteady = np.array([spread_of(samples) >= STEADY_DB for samples in sounds])
        above = np.array([scores >= least for least in THRESHOLDS])
        passed = np.array([above.sum(axis=1), (above & unsteady).sum(axis=1)])
        if not kind.startswith("ESC"):
            total, count = total + passed, count + len(sounds)
        print(f"  {kind:24} {len(sounds):3d} {scores.max():7.3f}  ", end="")
        print(*(f"{n:4d}" for n in passed[0]), " ", *(f"{n:4d}" for n in passed[1]))
    for title, passed in zip(("caught", "caught with steady ones"), total, strict=True):
        shares = " ".join(f"{100 * (1 - n / count):.1f} %" for n in passed)
        print(f"  all but ESC-50: {count}, {title}: {shares}")


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    if not (DATA / "emodb/wav").is_dir():
        print(f"skipped, no EmoDB in {DATA}; set SERFLOW_SHARED_DATA")
        return
    folders = [DATA / name for name in ("emodb/wav", "ravdess", "crema-d")]
    speech = [read(file) for folder in folders for file in sorted(folder.rglob("*.wav"))]
    others = other_sounds(DATA, speech)
    detector = VoiceDetector()
    report_speed(detector, speech, others)
    report_speech(detector, speech, read(DATA / "rir/rir48000.wav"))
    report_others(detector, others)


if __name__ == "__main__":
    main()
