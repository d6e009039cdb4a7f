"""Seconds to decode EmoDB into its store, to reach an utterance, and to compute functionals.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_functionals.py [RUNS]

Both start and stop their own worker processes or threads inside the measured time; the plain loop
reads the same files with soundfile alone.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from serflow.acoustics.functionals import functionals_table
from serflow.audio import AudioStore
from serflow.corpora import emodb
from serflow.packing import pack

ROOT = Path(__file__).parents[2]


def main(runs: int = 3) -> None:
    """Measure and print."""
    data = Path(os.environ.get("SERFLOW_SHARED_DATA", ROOT.parent / "shared" / "data")) / "emodb"
    if not data.is_dir():
        print(f"skipped: no EmoDB at {data}; set SERFLOW_SHARED_DATA")
        return
    listing = emodb.read(data)
    times: dict[str, list[float]] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            samples, index = Path(folder, "audio.i16"), Path(folder, "audio.parquet")
            start = time.perf_counter()
            for path in listing["path"]:
                soundfile.read(data / path, dtype="float32")
            loop = time.perf_counter()
            utterances, _ = pack(listing, samples, index, root=data, workers=2)
            packed = time.perf_counter()
            store = AudioStore([(samples, index)])
            functionals_table(store, listing["utterance_id"].tolist(), workers=2)
            end = time.perf_counter()
            access = []
            for name in np.random.default_rng(0).permutation(listing["utterance_id"]).tolist():
                before = time.perf_counter()
                store.samples(name)
                access.append(time.perf_counter() - before)
        for name, value in (("plain loop", loop - start), ("pack", packed - loop), ("functionals", end - packed)):  # fmt: skip
            times.setdefault(name, []).append(value)
    print(f"{len(listing)} files, {utterances['duration_s'].sum():.0f} s of speech, 2 workers")
    for name, values in times.items():
        print(f"{name}: {statistics.median(values):.2f} s (min {min(values):.2f}, {runs} runs)")
    low, high = 1e6 * np.quantile(access, [0.5, 0.99])
    print(f"random access to an utterance: median {low:.0f} us, 99th percentile {high:.0f} us")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
