"""Checkpoints that survive a kill at any moment: a folder counts only once it is sealed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from serflow.files import write_text

PREFIX = "checkpoint-"
SEAL = "sealed.json"


def path_of(root: Path, step: int) -> Path:
    """Folder of the checkpoint after `step` optimiser steps, named as HF Trainer names it."""
    return root / f"{PREFIX}{step}"


def seal(folder: Path, fingerprint: str) -> None:
    """Declare a checkpoint whole, by the sizes of its files.

    Parameters
    ----------
    folder : Path
    fingerprint : str
        Identifies data, settings and initial weights of the run.
    """
    sizes = {item.name: item.stat().st_size for item in folder.iterdir() if item.name != SEAL}
    write_text(folder / SEAL, json.dumps({"fingerprint": fingerprint, "sizes": sizes}))


def is_whole(folder: Path, fingerprint: str) -> bool:
    """Whether every file is there in full, and belongs to this very run."""
    try:
        record = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in record["sizes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return record["fingerprint"] == fingerprint and sizes == record["sizes"]


def newest(root: Path, fingerprint: str) -> Path | None:
    """The newest usable checkpoint; removes all that a kill or other settings left behind."""
    steps = []
    for folder in root.glob(f"{PREFIX}*"):
        if is_whole(folder, fingerprint):
            steps.append(_step(folder))
        else:
            shutil.rmtree(folder)
    return path_of(root, max(steps)) if steps else None


def prune(root: Path, best: int | None, keep: int = 2) -> None:
    """Remove all but the newest `keep` checkpoints and the one of the best step."""
    folders = sorted(root.glob(f"{PREFIX}*"), key=_step)
    for folder in folders[:-keep]:
        if _step(folder) != best:
            shutil.rmtree(folder)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(PREFIX))
