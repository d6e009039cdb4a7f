"""Seconds to compute the functionals of EmoDB.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_functionals.py [RUNS]

Worker processes are started and stopped inside the measured time.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from runs import DATA
from serflow.acoustics.functionals import functionals_table
from serflow.audio import AudioStore
from serflow.corpora import emodb
from serflow.packing import pack


def main(runs: int = 3) -> None:
    """Measure and print."""
    data = DATA / "emodb"
    if not data.is_dir():
        print(f"skipped: no EmoDB at {data}; set SERFLOW_SHARED_DATA")
        return
    listing = emodb.read(data)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "audio.i16"), Path(folder, "audio.parquet")
        utterances, _ = pack(listing, *place, root=data, workers=2)
        store, taken = AudioStore([place]), []
        for _ in range(runs):
            start = time.perf_counter()
            functionals_table(store, listing["utterance_id"].tolist(), workers=2)
            taken.append(time.perf_counter() - start)
    print(f"{len(listing)} files, {utterances['duration_s'].sum():.0f} s of speech, 2 workers")
    print(f"functionals: {statistics.median(taken):.2f} s (min {min(taken):.2f}, {runs} runs)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
