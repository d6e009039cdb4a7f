"""What serflow adds to Snakemake's own planning: `snakemake -n` of studies and grids, and a no-op run.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_planning.py [RUNS]

The bare workflow has as many jobs of one rule without inputs, and nothing else. Both are run
in turn, and `snakemake --version` with them, which is Snakemake's start and no plan, so that ratio and
difference hold on a machine whose speed drifts.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runs import ROOT, copy_workflow

BARE = """
rule all:
    input: expand("out/{{i}}.txt", i=range({n}))
rule job:
    output: "out/{{i}}.txt"
    script: "job.py"
"""
DEMO = ["--config", "studies=[demo]"]
SEEDS = "[1,2,3]", "[1]"


def seconds(folder: Path, *arguments: str) -> tuple[float, str]:
    """Wall time and output of one Snakemake run."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return time.perf_counter() - start, done.stdout


def paired(
    runs: int, ours: tuple[Path, list[str]], bare: tuple[Path, list[str]], what: str
) -> None:
    """Print medians of both, of their ratios, and of what is beyond Snakemake's start."""
    sides = ours, bare, (bare[0], ["--version"])
    times = [[seconds(folder, *call)[0] for folder, call in sides] for _ in range(runs)]
    a, b, start = (statistics.median(t) for t in zip(*times, strict=True))
    ratio = statistics.median(x / y for x, y, _ in times)
    beyond = statistics.median(x - z for x, _, z in times)
    print(
        f"{what}: serflow {a:.2f} s, bare Snakemake {b:.2f} s, ratio {ratio:.2f}; Snakemake's start "
        f"{start:.2f} s, beyond it {beyond:.2f} s ({runs} runs)"
    )


def main(runs: int = 5) -> None:
    """Measure and print."""
    # What posteriors_only plans depends on whose posteriors they are.
    known = {path.stem for path in (ROOT / "studies").glob("*.yaml")} - {"posteriors_only"}
    dry = ["-n", "--quiet", "host", "--config"]
    dry += ["paths={emodb: wav, emospeech2024: wav, msp_podcast: wav, savee: wav}"]
    all_studies = f"studies=[{','.join(sorted(known))}]"
    plans = {f"all studies and grids, seeds {s}": [all_studies, f"seeds={s}"] for s in SEEDS}
    plans["the grid of 25 points x 5 folds"] = ["studies=[emospeech2024]", "systems=[gemma]"]
    with tempfile.TemporaryDirectory() as scratch:
        ours, bare = copy_workflow(Path(scratch) / "ours"), Path(scratch) / "bare"
        bare.mkdir()
        (bare / "job.py").write_text(
            "from pathlib import Path\nPath(snakemake.output[0]).write_text('')\n"
        )
        for what, chosen in plans.items():
            planned = [*dry, *chosen]
            text = seconds(ours, *planned)[1]
            jobs = int(re.findall(r"^total\s+(\d+)", text, re.MULTILINE)[-1])
            (bare / "Snakefile").write_text(BARE.format(n=jobs - 1))
            paired(runs, (ours, planned), (bare, ["-n"]), f"-n of {jobs} jobs, {what}")
        if "Nothing to be done" not in seconds(ROOT, *DEMO, "-n")[1]:
            print("no-op run: skipped, results/demo is not complete; run `make demo` first")
            return
        seconds(bare, "--quiet", "all")
        paired(runs, (ROOT, DEMO), (bare, []), "no-op run of the finished demo")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
