"""Loading pretrained parts from a hub id or a local folder, with errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import cached_file, logging

from serflow.errors import UserError, name_some, without_token

# Never run code that comes with a model; weights are safetensors, or pickles read as plain tensors.
SAFE: dict[str, Any] = {"trust_remote_code": False}
SAFE_WEIGHTS: dict[str, Any] = SAFE | {"weights_only": True, "output_loading_info": True}


@contextmanager
def loading(source: str, what: str) -> Iterator[None]:
    """Turn the many ways in which loading `what` from `source` fails into one clear message.

    Raises
    ------
    UserError
        Says what was found at `source`, what is missing, and what to do.
    """
    # transformers reports a new head as missing weights; `check_complete` reports what matters.
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(_explain(source, what, without_token(reason))) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def check_complete(source: str, missing: list[str], what: str) -> None:
    """Refuse weights that leave layers at random values: a silent way to poor results.

    Raises
    ------
    UserError
        If `missing` names any layer.
    """
    if missing:
        raise UserError(
            f"the weights of '{source}' do not fit its config.json: {len(missing)} tensors of the "
            f"{what} are missing ({name_some(sorted(missing), 3)}); use a checkpoint of the whole "
            "model, or the config.json that belongs to these weights"
        )


def stored_tensors(source: str, names: list[str]) -> dict[str, Tensor]:
    """Those of the named tensors that a checkpoint holds, without reading the others.

    Parameters
    ----------
    source : str
        Hub id or local folder.
    names : list of str
        As the checkpoint has them.
    """
    if not names:
        return {}
    with loading(source, "weights of the head"):
        for file in ("model.safetensors", "pytorch_model.bin"):
            index = _cached(source, f"{file}.index.json")
            if index is not None:
                parts = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
                files = {parts[name] for name in names if name in parts}
            elif _cached(source, file) is not None:
                files = {file}
            else:
                continue
            found: dict[str, Tensor] = {}
            for part in sorted(files):
                found |= _read(_cached(source, part), names)
            return found
    return {}


def _cached(source: str, file: str) -> str | None:
    return cached_file(
        source,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )


def _read(path: str | None, names: list[str]) -> dict[str, Tensor]:
    assert path is not None, "the index names a file that is there"
    if path.endswith(".safetensors"):
        with safe_open(path, "pt") as file:
            held = set(file.keys())
            return {name: file.get_tensor(name) for name in names if name in held}
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {name: state[name] for name in names if name in state}


def _explain(source: str, what: str, reason: str) -> str:
    path = Path(source)
    if path.is_dir():
        found = name_some(sorted(item.name for item in path.iterdir()), 8) or "nothing"
        return (
            f"cannot load the {what} from the folder '{source}': {reason}\n"
            f"It holds {found}. Expected is what save_pretrained writes: config.json, "
            "model.safetensors, and preprocessor_config.json (speech) or tokenizer files (text)."
        )
    if path.exists():
        return f"cannot load the {what} from '{source}': it is a file; give the model's folder"
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        return f"cannot load the {what} from '{source}': there is no such folder"
    return (
        f"cannot load the {what} '{source}': it is no local folder, and the Hugging Face hub did "
        f"not give it: {reason}\n"
        "Without network, download it elsewhere and give its folder under 'models:' in "
        f"config.yaml. For a gated model accept its licence at https://huggingface.co/{source} and "
        "set HF_TOKEN."
    )
