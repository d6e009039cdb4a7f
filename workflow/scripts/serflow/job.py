"""What surrounds every job: its log, its errors."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serflow.errors import UserError


def run(main: Callable[[Any, dict[str, Any]], None], smk: Any) -> None:
    """Run a rule's script with everything that it prints in the rule's log.

    Parameters
    ----------
    main : callable
        Takes Snakemake's object and the rule's settings.
    smk : snakemake.script.Snakemake
        The global of a `script:` job.

    A UserError becomes its message alone; any other exception keeps its traceback. Snakemake shows
    the log of a failed job.
    """
    log = Path(smk.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    # File descriptors, not sys.stdout: native libraries and child processes write there as well.
    with log.open("w", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    try:
        main(smk, json.loads(smk.params.get("settings", "{}")))
    except UserError as error:
        print(f"\nError in {smk.rule}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
