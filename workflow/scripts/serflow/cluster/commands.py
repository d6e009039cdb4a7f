"""Ask Slurm, and say what to do where it does not answer."""

from __future__ import annotations

import subprocess

from serflow.errors import UserError


def ask(*command: str, needed: bool = True) -> str:
    """What a command prints.

    Parameters
    ----------
    *command : str
    needed : bool
        False: no answer is an empty one, as from `sacctmgr` where there is no accounting.

    Raises
    ------
    UserError
        The command is not there, failed, or took more than a minute.
    """
    line = " ".join(command)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        fault = f"{command[0]} is not in PATH: run this on a login node of the cluster"
    except subprocess.TimeoutExpired:
        fault = f"`{line}` gave no answer in 60 s: is the controller up? Try `scontrol ping`"
    else:
        if done.returncode == 0:
            return done.stdout
        fault = f"`{line}` failed: {done.stderr.strip() or done.returncode}"
    if needed:
        raise UserError(fault)
    return ""
