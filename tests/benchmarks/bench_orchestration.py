"""What Snakemake and the profile cost a job of a large run on Slurm, and where it goes.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_orchestration.py [JOBS]

A workflow of so many trivial jobs goes through `snakemake --profile slurm`, the plugin and slurm/bin
to a stand-in for Slurm: its `sbatch` does the job's work at once and its `sacct` says that all is
done. So nothing waits for a node, and what is left is orchestration: planning, submitting, waiting
for the next question about the jobs' states, and taking note of results. Once as single jobs, once
as arrays. What a job itself starts on its node, two more Snakemake processes, is timed with one of
the command lines that `sbatch` was given.
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runs import copy_workflow

WORKFLOW = """
rule all:
    input: expand("out/{{i}}.txt", i=range({n}))
    localrule: True
rule train_fold:
    output: "out/{{i}}.txt"
    resources: mem_mb=500, runtime=10
    shell: "touch {{output}}"
"""
SBATCH = r"""#!/usr/bin/env bash
folder=$STAND_IN
mkdir -p out
id=$(($(wc -l < "$folder/submitted") + 1))
all="$*"
if [[ $all =~ --array=([0-9]+)-([0-9]+) ]]; then
  (cd out && seq -f '%.0f.txt' 0 $((BENCH_JOBS - 1)) | xargs touch)
  for ((k = BASH_REMATCH[1]; k <= BASH_REMATCH[2]; k++)); do echo "${id}_$k|COMPLETED"; done >> "$folder/states"
elif [[ $all =~ --target-jobs\ \'train_fold:i=([0-9]+)\' ]]; then
  touch "out/${BASH_REMATCH[1]}.txt"
  echo "$id|COMPLETED" >> "$folder/states"
  [ -e "$folder/command" ] || for word; do case $word in --wrap=*) printf '%s' "${word#--wrap=}" > "$folder/command" ;; esac; done
fi
date +%s.%N >> "$folder/submitted"
echo $id
"""
STAND_INS = {
    "sbatch": SBATCH,
    "sacct": '#!/usr/bin/env bash\necho >> "$STAND_IN/asked"\ncat "$STAND_IN/states"\n',
    "scontrol": "#!/usr/bin/env bash\necho 'MaxArraySize = 1001'\n",
    "sacctmgr": "#!/usr/bin/env bash\necho bench\n",
    "sinfo": "#!/usr/bin/env bash\necho 'bench*'\n",
    "squeue": "#!/usr/bin/env bash\n",
    "scancel": "#!/usr/bin/env bash\n",
    "srun": '#!/usr/bin/env bash\nwhile [[ $1 == -* ]]; do shift; done\nexec "$@"\n',
}
NODE_RUNS = 5


def prepare(folder: Path, jobs: int, arrays: bool) -> dict[str, str]:
    """A workflow beside the profile and the stand-in, and the environment that leads to it."""
    copy_workflow(folder)
    (folder / "Snakefile").write_text(WORKFLOW.format(n=jobs), encoding="utf-8")
    site = f"account: bench\npartition: bench\njobs: {jobs}\n"
    site += "arrays: [train_fold]\n" if arrays else ""
    (folder / "slurm/site.yaml").write_text(site, encoding="utf-8")
    stand_in = folder / "stand-in"
    stand_in.mkdir()
    for name, text in STAND_INS.items():
        (stand_in / name).write_text(text, encoding="utf-8")
        (stand_in / name).chmod(0o755)
    for name in ("submitted", "states", "asked"):
        (stand_in / name).touch()
    return {
        **os.environ,
        "PATH": f"{stand_in}{os.pathsep}{os.environ['PATH']}",
        "STAND_IN": str(stand_in),
        "BENCH_JOBS": str(jobs),
    }


def run(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[float, float, float]:
    """When a run of Snakemake began and ended, and its CPU seconds, its child processes' included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.time()
    with (folder / "log").open("w", encoding="utf-8") as log:
        subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=folder, env=environment, check=True, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return start, time.time(), cpu


def measure(scratch: Path, jobs: int, arrays: bool) -> Path:
    """Print where the time of a run goes; its folder."""
    folder = scratch / ("arrays" if arrays else "single")
    environment = prepare(folder, jobs, arrays)
    start, end, _ = run(folder, environment, "-n", "--quiet", "all", "--cores", "1")
    planned = end - start
    start, end, cpu = run(folder, environment, "--profile", "slurm")
    stand_in = folder / "stand-in"
    submitted = [float(line) for line in (stand_in / "submitted").read_text().split()]
    asked = len((stand_in / "asked").read_text().splitlines())
    print(
        f"{jobs} jobs as {'arrays' if arrays else 'single jobs'}, {len(submitted)} calls of sbatch:"
    )
    print(f"  dry run                     {planned:7.1f} s")
    print(f"  to the first submission     {submitted[0] - start:7.1f} s")
    print(f"  to the last submission      {submitted[-1] - submitted[0]:7.1f} s")
    print(f"  to the end, {asked:3d} times sacct {end - submitted[-1]:7.1f} s")
    print(
        f"  all                         {end - start:7.1f} s, {1e3 * (end - start) / jobs:.0f} ms a job"
    )
    print(f"  CPU, of that                {cpu:7.1f} s, {1e3 * cpu / jobs:.0f} ms a job")
    return folder


def on_the_node(folder: Path) -> None:
    """Print what one job starts before its own work."""
    command = (folder / "stand-in/command").read_text(encoding="utf-8")
    environment = prepare_node(folder)
    # Snakemake's own folder, which is gone by now: a job waits for it.
    Path(re.search(r"--wait-for-files '([^']+)'", command)[1]).mkdir(exist_ok=True)
    times = []
    for _ in range(NODE_RUNS):
        start = time.perf_counter()
        subprocess.run(
            command, shell=True, cwd=folder, env=environment, check=True, capture_output=True
        )
        times.append(time.perf_counter() - start)
    print(f"on the node, a job's two Snakemake processes: {statistics.median(times):.1f} s")


def prepare_node(folder: Path) -> dict[str, str]:
    """The environment of a job."""
    stand_in = folder / "stand-in"
    path = f"{stand_in}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "STAND_IN": str(stand_in), "SLURM_JOB_ID": "1"}


def main(jobs: int = 2000) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = measure(Path(scratch), jobs, arrays=False)
        on_the_node(folder)
        measure(Path(scratch), jobs, arrays=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
