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
from serflow.systems.interface import Examples, System, build

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
    record = _read_record(folder)
    settings = record["settings"] | ({"model": models[0]} if models else {})
    family = import_module(f"serflow.systems.{settings['family']}")
    if not hasattr(family, "load"):
        raise UserError(
            f"{folder}: systems of the family {settings['family']} are not stored, as they are "
            "fitted in seconds"
        )
    system = family.load(settings, _context(record, folder, threads), folder)
    system.train_prior_ = np.array(record["train_prior"])
    return system


def load_or_fit(
    folder: Path, train: Examples, models: Sequence[str] = (), threads: int = 1
) -> System:
    """The system that a folder holds, fitted again if it is of a family that is not stored.

    Parameters
    ----------
    folder : Path
    train : Examples
        The rows that it was trained on, with its inputs; read by those families alone, none of
        which looks at dev rows.
    models, threads
        As of `load`.

    Raises
    ------
    UserError
        The folder holds no system.
    """
    record = _read_record(folder)
    family = record["settings"]["family"]
    if hasattr(import_module(f"serflow.systems.{family}"), "load"):
        return load(folder, models, threads)
    return build(family, record["settings"], _context(record, folder, threads)).fit(train, None)


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} holds no trained system ({error}); expected {RECORD}. Train it anew."
        ) from None


def _context(record: dict[str, Any], folder: Path, threads: int) -> Context:
    return Context(
        record["classes"],
        record["seed"],
        folder,
        threads,
        train_only=record["train_only"],
        scale=record["scale"] and Scale(**record["scale"]),
    )
