"""What audio fingerprints find on real speech, what they invent, and how long they take.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_fingerprints.py [FILES]

Different recordings: all of EmoDB (10 speakers, the same 10 sentences), RAVDESS Actor_01 (the same
2 sentences, 8 emotions) and CREMA-D samples, together. No pair may be reported; the smallest bit
error rate of two recordings at their best offset is printed, for the pairs of one speaker and
sentence. Copies: FILES of EmoDB's files, each altered and looked up among all of these.
"""

from __future__ import annotations

import io
import itertools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import soxr

from runs import DATA
from serflow.acoustics.fingerprints import HOP_S, fingerprint, fingerprints_table
from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.corpora import emodb
from serflow.leakage.duplicates import most_errors, near_duplicates
from serflow.packing import pack, quantise
from serflow.tables import LISTING

UTTERANCES, SECONDS = 100_000, 5.76
PLANTED = 1000


def encoded(samples, container, codec, level, rate=SAMPLE_RATE):
    """Samples after a lossy codec."""
    file = io.BytesIO()
    sent = soxr.resample(samples, SAMPLE_RATE, rate)
    options = {"format": container, "subtype": codec, "compression_level": level}
    with soundfile.SoundFile(file, "w", rate, 1, **options) as sound:
        # Much at once overflows the Vorbis encoder's stack (xiph/vorbis issue 99).
        for start in range(0, len(sent), rate):
            sound.write(sent[start : start + rate])
    size = len(file.getbuffer())
    file.seek(0)
    return soxr.resample(soundfile.read(file, dtype="float32")[0], rate, SAMPLE_RATE), size


def telephone(samples):
    """Samples through 8 kHz and back."""
    return soxr.resample(soxr.resample(samples, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)


def noisy(samples, decibel):
    """Samples with white noise at a signal-to-noise ratio."""
    level = np.sqrt(np.mean(samples**2) / 10 ** (decibel / 10))
    rng = np.random.default_rng(len(samples))
    return samples + level * rng.standard_normal(len(samples)).astype(np.float32)


CODECS = {
    "MP3": ("MP3", "MPEG_LAYER_III", 0.99),
    "MP3, better": ("MP3", "MPEG_LAYER_III", 0.7),
    "Ogg Vorbis": ("OGG", "VORBIS", 1.0),
    "Opus": ("OGG", "OPUS", 0.95),
    "Opus, lowest": ("OGG", "OPUS", 1.0),
}
ALTERED = {
    **{name: (lambda x, c=codec: encoded(x, *c)[0]) for name, codec in CODECS.items()},
    "8 kHz and back": telephone,
    "-12 dB": lambda x: x * 10 ** (-12 / 20),
    "-30 dB": lambda x: x * 10 ** (-30 / 20),
    "0.13 s cut": lambda x: x[2080:],
    "0.5 s cut": lambda x: x[8037:],
    "1 s cut": lambda x: x[16_037:],
    "0.4 s cut at both ends": lambda x: x[6437:-6400],
    "1 s silence before": lambda x: np.concatenate([np.zeros(16_050, np.float32), x]),
    "noise, 20 dB": lambda x: noisy(x, 20),
    "noise, 10 dB": lambda x: noisy(x, 10),
    "0.3 s cut, 8 kHz, MP3": lambda x: encoded(telephone(x[5003:]), *CODECS["MP3"])[0],
}


def real_speech(data: Path) -> tuple[pd.DataFrame, AudioStore, tempfile.TemporaryDirectory]:
    """Every real recording there is, packed."""
    files = sorted(
        f for c in ("emodb/wav", "ravdess", "crema-d") for f in (DATA / c).rglob("*.wav")
    )
    names = [f"{file.relative_to(data).parts[0]}/{file.stem}" for file in files]
    rows = {"utterance_id": names, "corpus": "x", "path": [str(file) for file in files]}
    listing = pd.DataFrame(rows).reindex(columns=list(LISTING.columns))
    folder = tempfile.TemporaryDirectory()
    place = Path(folder.name, "audio.i16"), Path(folder.name, "audio.parquet")
    utterances, _ = pack(listing, *place, root="/", workers=2)
    return utterances, AudioStore([place]), folder


def smallest_error(one, two, least: int) -> tuple[float, int]:
    """Bit error rate of two fingerprints at their best offset of at least so many words."""
    if len(one) > len(two):
        one, two = two, one
    padded = np.concatenate([np.zeros_like(one), two, np.zeros_like(one)])
    shifted = np.lib.stride_tricks.sliding_window_view(padded, len(one))
    valid = (shifted != 0) & (one != 0)
    compared = valid.sum(axis=1)
    errors = (np.bitwise_count(shifted ^ one) * valid).sum(axis=1, dtype=np.int64)
    rate = np.where(compared >= least, errors / (32 * np.maximum(compared, 1)), 1.0)
    return float(rate.min()), int(compared[rate.argmin()])


def report_different(table: pd.DataFrame) -> None:
    """Print the false positives and how near the nearest different recordings come."""
    print(
        f"different recordings: {len(table)}, reported as copies: {len(near_duplicates([table]))}"
    )
    words = dict(table.itertuples(index=False, name=None))
    # EmoDB 03a01..., RAVDESS 03-01-emotion-intensity-statement-repetition-actor, CREMA-D 1001_DFA.
    text = [f"{n[:5]} {n.split('-')[-3]}" if n.startswith("rav") else n[:13] for n in words]
    text = [name[: len("emodb/03a01")] if name.startswith("emodb") else name for name in text]
    groups = pd.Series(list(words)).groupby(text).agg(list)
    found = [
        (*smallest_error(words[a], words[b], 40), a, b)
        for group in groups
        for a, b in itertools.combinations(group, 2)
    ]
    print(f"  {len(found)} pairs of one speaker and sentence, nearest (bit error rate, limit):")
    for rate, compared, a, b in sorted(found)[:3]:
        print(f"    {rate:.3f} {most_errors(np.array([compared]))[0]:.3f} {compared} words {a} {b}")


def report_copies(table: pd.DataFrame, store: AudioStore, count: int) -> None:
    """Print how many copies are found, by what was done to them."""
    names = [name for name in table["utterance_id"] if name.startswith("emodb/")]
    names = np.random.default_rng(1).permutation(names)[:count].tolist()
    whole = np.concatenate([store.samples(name) for name in names])
    rates = {n: encoded(whole, *c)[1] * 8 / len(whole) * SAMPLE_RATE for n, c in CODECS.items()}
    print(f"copies of {len(names)} EmoDB files     recall  wrong  largest bit error rate")
    for title, alter in ALTERED.items():
        words = [
            fingerprint(quantise(alter(store.samples(name)))[0].astype(np.float32) / 32768)
            for name in names
        ]
        copies = pd.DataFrame({"utterance_id": [f"copy of {n}" for n in names], "words": words})
        found = near_duplicates([table, copies])
        right = found["utterance_id_b"] == "copy of " + found["utterance_id_a"]
        speed = f" ({rates[title] / 1000:.0f} kbit/s)" if title in rates else ""
        print(
            f"  {title + speed:32} {right.sum() / len(names):.3f} {len(right) - right.sum():5d} "
            f"{found['bit_error_rate'].max():8.3f}"
        )


def report_scale() -> None:
    """Print the time to match a large synthetic set.

    Words take 2**22 values, which makes two of them equal as often as in EmoDB (2.6e-7); 21 % repeat
    their predecessor, as there; 2 % are one of 100 words that everyone has.
    """
    rng = np.random.default_rng(0)
    lengths = rng.gamma(4, SECONDS / 4 / HOP_S, UTTERANCES).astype(int) + 40
    words = rng.integers(1, 2**22, lengths.sum(), dtype=np.uint32) * np.uint32(2654435761)
    common = np.flatnonzero(rng.random(len(words)) < 0.02)
    words[common] = rng.integers(1, 100, len(common), dtype=np.uint32)
    repeated = np.flatnonzero(rng.random(len(words)) < 0.21)[1:]
    words[repeated] = words[repeated - 1]
    rows = np.split(words, np.cumsum(lengths)[:-1])
    for i in range(PLANTED):
        flipped = np.packbits(rng.random((len(rows[i]), 32)) < 0.08, axis=1).view(np.uint32)[:, 0]
        rows[UTTERANCES - 1 - i] = rows[i] ^ flipped
    table = pd.DataFrame({"utterance_id": [f"{i:06d}" for i in range(UTTERANCES)], "words": rows})
    start = time.perf_counter()
    found = near_duplicates([table])
    taken = time.perf_counter() - start
    right = found["utterance_id_a"].astype(int) + found["utterance_id_b"].astype(int)
    right = (right == UTTERANCES - 1).sum()
    print(
        f"matching {UTTERANCES} utterances, {lengths.sum() * HOP_S / 3600:.0f} h, "
        f"{lengths.sum()} words: {taken:.1f} s; {right} of {PLANTED} planted copies (8 % of the "
        f"bits wrong) found, {len(found) - right} others"
    )


def main(count: int = 120) -> None:
    """Measure and print."""
    if (DATA / emodb.__name__.rpartition(".")[2] / "wav").is_dir():
        utterances, store, folder = real_speech(DATA)
        with folder:
            names = utterances["utterance_id"].tolist()
            start = time.perf_counter()
            table = fingerprints_table(store, names)
            taken = time.perf_counter() - start
            hours = utterances["duration_s"].sum() / 3600
            print(f"fingerprints: {taken / hours:.1f} s per hour of speech, 1 worker")
            report_different(table)
            report_copies(table, store, count)
    else:
        print(f"real speech: skipped, no EmoDB in {DATA}; set SERFLOW_SHARED_DATA")
    report_scale()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
