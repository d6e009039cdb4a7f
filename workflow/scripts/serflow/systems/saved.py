"""A trained system on disk, whole and without code: what its posteriors can be had from again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from serflow.attributes import Scale
from serflow.context import Context
from serflow.errors import UserError
from serflow.files import write_text
from serflow.systems.interface import System

RECORD, WEIGHTS = "system.json", "trained.safetensors"


def write_record(
    folder: Path, settings: dict[str, Any], context: Context, prior: np.ndarray, **more: Any
) -> None:
    """Write `system.json`; the family puts its tensors beside it.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    settings : dict
        The system's block, as JSON.
    context : Context
    prior : ndarray of float, shape (n_classes,)
        The prior that the system was effectively trained with.
    **more
        Further facts, as JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "settings": settings,
        "classes": list(context.classes),
        "train_only": context.train_only,
        "seed": context.seed,
        "scale": context.scale and asdict(context.scale),
        "train_prior": np.asarray(prior).tolist(),
        **more,
    }
    write_text(folder / RECORD, json.dumps(record, indent=1))


def load(folder: Path, models: Sequence[str] = (), threads: int = 1) -> System:
    """The system that a folder holds, ready to predict.

    Parameters
    ----------
    folder : Path
    models : sequence of str
        Where the pretrained model lies now, if not where it was: frozen weights are not stored.
    threads : int
        CPU threads; another number may change the last bits of a posterior.

    Raises
    ------
    UserError
        The folder holds no system, or one of a family that is not stored.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} holds no trained system ({error}); expected {RECORD}. Train it anew."
        ) from None
    settings = record["settings"] | ({"model": models[0]} if models else {})
    context = Context(
        record["classes"],
        record["seed"],
        folder,
        threads,
        train_only=record["train_only"],
        scale=record["scale"] and Scale(**record["scale"]),
    )
    family = import_module(f"serflow.systems.{settings['family']}")
    if not hasattr(family, "load"):
        raise UserError(
            f"{folder}: systems of the family {settings['family']} are not stored, as they are "
            "fitted in seconds"
        )
    system = family.load(settings, context, folder)
    system.train_prior_ = np.array(record["train_prior"])
    return system
