"""What surrounds every job: its log, its errors, its scratch folder."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serflow.attempts import recorded
from serflow.errors import UserError
from serflow.files import write_text
from serflow.scratch import scratch_folder, temporary_files_in

# Names one run of Snakemake, where retries are to end with the first failure that they cannot mend.
RUN = "SERFLOW_RUN"
# Names a file, in each of the processes that one job has several of (`serflow.launch`).
WORKER_ERROR = "SERFLOW_WORKER_ERROR"
REFUSED = Path(".snakemake/serflow/refused")


def run(main: Callable[[Any, dict[str, Any]], None], smk: Any) -> None:
    """Run a rule's script with everything that it prints in the rule's log.

    Parameters
    ----------
    main : callable
        Takes Snakemake's object and the rule's settings.
    smk : snakemake.script.Snakemake
        The global of a `script:` job.

    A UserError becomes its message alone; any other exception keeps its traceback. Snakemake shows
    the log of a failed job. A UserError is no accident of a node or of memory, so a retry in the same
    run of Snakemake fails at once with the same message; `slurm/bin` does not even submit it.

    One of several processes of a job leaves its error to the process that started it.
    """
    settings = json.loads(smk.params.get("settings", "{}"))
    if WORKER_ERROR in os.environ:
        _run_worker(main, smk, settings, Path(os.environ[WORKER_ERROR]))
        return
    log = Path(smk.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    # File descriptors, not sys.stdout: native libraries and child processes write there as well.
    with log.open("w", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    mark = _mark(smk)
    try:
        if mark and mark.exists():
            raise UserError(mark.read_text(encoding="utf-8"))
        # Where a job puts temporary files changes nothing of what it makes, so it is no param.
        scratch = scratch_folder(smk.config.get("scratch"))
        with (
            recorded(log, smk.threads, dict(smk.resources.items())),
            temporary_files_in(scratch),
        ):
            main(smk, settings)
    except UserError as error:
        print(f"\nError in {smk.rule}: {error}", file=sys.stderr, flush=True)
        if mark:
            write_text(mark, str(error))
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _run_worker(main: Callable[..., None], smk: Any, settings: dict[str, Any], file: Path) -> None:
    try:
        main(smk, settings)
    except Exception as error:
        mendable = isinstance(error, UserError)
        said = str(error) if mendable else traceback.format_exc()
        write_text(file, json.dumps({"mendable": mendable, "said": said}))
        sys.exit(1)


def _mark(smk: Any) -> Path | None:
    """The file that says that this job failed for good in this run of Snakemake."""
    run = os.environ.get(RUN)
    if not run:
        return None
    # As Snakemake names a job on command lines, where `slurm/bin/sbatch` reads it.
    target = f"{smk.rule}:" + ",".join(f"{key}={value}" for key, value in smk.wildcards.items())
    return REFUSED / run / hashlib.sha256(target.encode()).hexdigest()
