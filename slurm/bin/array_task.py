"""Run one task of a Slurm array as a job of its own; `slurm/bin/sbatch` puts this before the command.

The plugin (2.8.0) starts the first task's Snakemake in every task, which deletes that task's output
before it runs its own command: a task that starts late takes away what the first has written.
Here each task runs the command that it would have had outside of an array.

Standard library alone: it runs before anything else of the job.
"""

import base64
import json
import os
import sys
import zlib

OPTION = "--slurm-jobstep-array-execs="


def command(arguments: list[str], task: int) -> list[str]:
    """The command of one task.

    Parameters
    ----------
    arguments : list of str
        The first task's command, and all the others' in OPTION: task number -> zlib as hexadecimal.
    task : int
    """
    own = [word for word in arguments if not word.startswith(OPTION)]
    (packed,) = (word[len(OPTION) :] for word in arguments if word.startswith(OPTION))
    others = json.loads(base64.b64decode(packed))
    if str(task) not in others:
        return own
    return ["/bin/sh", "-c", zlib.decompress(bytes.fromhex(others[str(task)])).decode("utf-8")]


if __name__ == "__main__":
    words = command(sys.argv[1:], int(os.environ["SLURM_ARRAY_TASK_ID"]))
    os.execvp(words[0], words)
