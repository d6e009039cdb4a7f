"""The plan of all papers on a real Slurm: its trainings arrive there in arrays, and are held."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster import Cluster
from runs import ROOT, copy_workflow, snakemake
from serflow.plan.resources import SNAKEMAKE_MB
from slurm_runs import LAUNCHER, before_in_path, wait_for, wrap

# What posteriors_only plans depends on whose posteriors they are.
STUDIES = sorted({path.stem for path in (ROOT / "studies").glob("*.yaml")} - {"posteriors_only"})
# The classes as they are would fit none of the virtual nodes; each keeps a memory of its own.
MEMORY = {"cpu-small": 500, "cpu-audio": 600, "gpu-small": 700, "gpu-large": 800}
MEMORY_OF = {"train_fold": 700} | {
    f"train_fold_{name.replace('-', '_')}": mb for name, mb in MEMORY.items() if name != "gpu-small"
}
CLASSES = ", ".join(f"{x}: {{cpus: 1, mem_mb: {mb}, runtime: 5}}" for x, mb in MEMORY.items())
CONFIG = [
    "--config",
    f"studies=[{','.join(STUDIES)}]",
    "paths={emodb: wav, emospeech2024: wav, msp_podcast: wav, savee: wav}",
    "seeds=[1,2,3]",
    f"resources={{{CLASSES}}}",
]


def trainings(plan: str) -> dict[str, tuple[str, list[str]]]:
    """Of the text of a dry run: output of a training -> its rule and its inputs."""
    found = {}
    for rule, block in re.findall(r"^rule (train_fold\w*):\n((?:    .*\n)+)", plan, re.MULTILINE):
        fields = dict(re.findall(r"^    (input|output): (.*)$", block, re.MULTILINE))
        found[fields["output"]] = rule, fields["input"].split(", ")
    return found


def test_the_trainings_of_all_papers_arrive_in_arrays_of_their_classes(
    cluster: Cluster, tmp_path: Path
) -> None:
    """An array gives all its tasks what the first asks for: classes in one array would starve."""
    folder = copy_workflow(tmp_path / "clone")
    (folder / "slurm/site.yaml").write_text("arrays: [train_fold]\n", encoding="utf-8")
    text = snakemake(folder, "--profile", "slurm", "-n", *CONFIG).stdout
    assert int(re.findall(r"^total\s+(\d+)", text, re.MULTILINE)[-1]) > 1000
    planned = trainings(text)
    # The others wait for embeddings of one of these, or for a grid that these choose on.
    ready = {x: rule for x, (rule, inputs) in planned.items() if "/seed-" not in str(inputs)}
    now = time.time()
    for path in {path for output in ready for path in planned[output][1]}:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
        os.utime(folder / path, (now, now))  # none is newer than what is made of it
    # Nothing is to run: there is no data.
    wrap(tmp_path / "bin/sbatch", f'exec {cluster.folder}/bin/sbatch --hold "$@"\n')
    path = before_in_path(tmp_path / "bin", cluster)
    with (folder / "log.txt").open("wb") as log:
        run = subprocess.Popen(
            [sys.executable, LAUNCHER, "--profile", "slurm", *CONFIG, "--", *sorted(ready)],
            cwd=folder, env={**cluster.environment(), "PATH": path}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

    def held() -> list[list[str]]:
        shown = cluster.run("squeue", "-h", "-r", "-t", "PD", "-o", "%F|%m|%k|%Z")
        rows = (line.split("|", 3) for line in shown.splitlines())
        return [row[:3] for row in rows if row[3] == str(folder)]

    try:
        wait_for(lambda: run.poll() is not None or len(held()) >= len(ready), "all tasks")
        tasks = held()
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(120)
    assert len(tasks) == len(ready), (folder / "log.txt").read_text(errors="replace")[-3000:]
    arrays = {number: (int(memory.rstrip("M")), comment) for number, memory, comment in tasks}
    print(f"{len(tasks)} tasks in {len(arrays)} arrays")
    for rule, own in MEMORY_OF.items():
        found = [mb for mb, comment in arrays.values() if comment.startswith(f"rule_{rule}_wild")]
        assert len(found) == -(-list(ready.values()).count(rule) // 40), rule
        # What Snakemake needs is added, and a little more by the plugin for each array.
        assert all(own + SNAKEMAKE_MB <= mb < own + SNAKEMAKE_MB + 100 for mb in found)
    assert len(set(ready.values())) > 1
    assert not held(), "an interrupted run leaves nothing in the queue"
