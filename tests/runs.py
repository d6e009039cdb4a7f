"""Run the real workflow in a copy of the checkout, and read what Snakemake plans."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Real speech and texts for tests and benchmarks: emodb/, ravdess/, emospeech2024/, oddities/, ...
DATA = Path(os.environ.get("SERFLOW_SHARED_DATA") or ROOT.parent / "shared" / "data")
PARTS = ["Snakefile", "config.yaml", "studies", "slurm", "profiles", "workflow", "envs"]


def copy_workflow(target: Path) -> Path:
    """What a fresh clone has of the workflow, without results."""
    target.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / part)
    return target


def snakemake(folder: Path, *arguments: str, check: bool = True, **environment: str):
    """Run Snakemake in `folder`; one thread for numerical libraries unless a rule says otherwise."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env={**os.environ, "TQDM_DISABLE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check and done.returncode:
        raise AssertionError(f"snakemake {arguments} failed:\n{done.stdout[-6000:]}")
    return done


def planned(folder: Path, *arguments: str) -> list[str]:
    """Jobs of a dry run, as 'rule wildcard=value ...', sorted; without `all`."""
    text = snakemake(folder, "--cores", "2", "-n", *arguments).stdout
    jobs = []
    for block in re.split(r"\n(?=\[)|\n\n", text):
        name = re.search(r"^(?:local)?(?:rule|checkpoint) (\w+):", block, re.MULTILINE)
        if name and name[1] != "all":
            wildcards = re.search(r"^\s+wildcards: (.*)$", block, re.MULTILINE)
            jobs.append(f"{name[1]} {wildcards[1]}" if wildcards else name[1])
    assert jobs or "Nothing to be done" in text, text[-3000:]
    return sorted(jobs)


@contextmanager
def edited(path: Path, old: str | bytes, new: str | bytes):
    """Replace text in a file for the length of a `with`; put file and date back afterwards."""
    data, stat = path.read_bytes(), path.stat()
    old, new = (x.encode() if isinstance(x, str) else x for x in (old, new))
    assert old in data, f"{path} does not hold {old!r}"
    path.write_bytes(data.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
