"""Audio preparation against a plain soundfile + soxr loop over the same files, side by side.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_packing.py [RUNS]

The loop reads each file, takes the mean of its channels, resamples it to 16 kHz and throws it away,
on one core; `pack` also quantises, measures, hashes and writes it, on every core given. Speed is
seconds of speech per second of wall time; the ratio is pack's per core over the loop's. Both run in
turn within each round, and the median over rounds is printed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import soxr

from runs import DATA
from serflow.audio import SAMPLE_RATE, AudioStore
from serflow.packing import pack
from serflow.tables import LISTING

CORPORA = {"EmoDB, 16 kHz": "emodb/wav", "RAVDESS, 48 kHz": "ravdess"}
WORKERS = 2


def plain_loop(files: list[Path]) -> None:
    """What everyone's own script does."""
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        if samples.ndim > 1:
            samples = samples.mean(axis=1)
        soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")


def listing_of(files: list[Path]) -> pd.DataFrame:
    """The files as utterances, several times over where they are few: threads take a while to start."""
    ids = [f"{i:05d} {file.stem}" for i, file in enumerate(files)]
    rows = {"utterance_id": ids, "corpus": "x", "path": [str(file) for file in files]}
    return pd.DataFrame(rows).reindex(columns=list(LISTING.columns))


def main(runs: int = 7) -> None:
    """Measure and print."""
    for title, folder in CORPORA.items():
        found = sorted((DATA / folder).rglob("*.wav"))
        if not found:
            print(f"{title}: skipped, no files in {DATA / folder}; set SERFLOW_SHARED_DATA")
            continue
        files = found * -(-2000 // len(found))
        listing = listing_of(files)
        loops, packs = [], []
        with tempfile.TemporaryDirectory() as temporary:
            place = (Path(temporary, "audio.i16"), Path(temporary, "audio.parquet"))
            for _ in range(runs):
                start = time.perf_counter()
                plain_loop(files)
                middle = time.perf_counter()
                utterances, _ = pack(listing, *place, root="/", workers=WORKERS)
                loops.append(middle - start)
                packs.append(time.perf_counter() - middle)
            store, taken = AudioStore([place]), []
            for name in np.random.default_rng(0).permutation(listing["utterance_id"]).tolist():
                before = time.perf_counter()
                store.samples(name)
                taken.append(time.perf_counter() - before)
        seconds = utterances["duration_s"].sum()
        ratios = [loop / packed / WORKERS for loop, packed in zip(loops, packs, strict=True)]
        low, high = 1e6 * np.quantile(taken, [0.5, 0.99])
        print(
            f"{title}: {len(files)} files, {seconds:.0f} s of speech, medians of {runs} rounds\n"
            f"  plain loop, one core: {statistics.median(loops):.3f} s\n"
            f"  pack, {WORKERS} workers: {statistics.median(packs):.3f} s\n"
            f"  pack per core / plain loop: {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})\n"
            f"  random access to an utterance: median {low:.0f} us, 99th percentile {high:.0f} us"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
