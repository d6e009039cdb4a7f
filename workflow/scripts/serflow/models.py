"""Folders of pretrained models: whole or absent, with a record of where they came from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serflow.acquisition.unpack import unpack
from serflow.errors import UserError, without_token
from serflow.files import write_text

RECORD = "model.json"
# Weights as safetensors, NeMo archives, configurations and tokenizers; never code.
WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.nemo", "*.yaml", "*.jinja"]
# Only models that have no safetensors need these; they are loaded with weights_only.
PICKLED = ["*.bin", "*.pt"]
# Of a .nemo archive: weights hardly shrink, and there are a few dozen files.
_MOST_GROWN, _MOST_MEMBERS = 4, 1000


@contextmanager
def made_whole(folder: Path, origin: str, **record: str) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `folder` when it is complete.

    Parameters
    ----------
    folder : Path
    origin : str
        What the model is, for the record `model.json` inside the folder.
    **record : str
        Further entries of the record; the caller may also write `model.json` itself.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if not (partial / RECORD).exists():
            write_text(partial / RECORD, json.dumps({"origin": origin, **record}, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def origin(file: str | Path) -> dict[str, str]:
    """What is on record of a model, by the file that stands for it; empty for one of one's own."""
    record = Path(file)
    if record.name != RECORD:
        return {}
    return json.loads(record.read_text(encoding="utf-8"))


def unpack_nemo(archive: Path, folder: Path) -> None:
    """Unpack a `.nemo` file into a folder of its own: NeMo would do it anew in every job.

    Parameters
    ----------
    archive : Path
    folder : Path
        Gets the archive's files, and its SHA-256 on record.

    Raises
    ------
    UserError
        It is no archive, is damaged, or holds what is not unpacked.
    """
    with archive.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with made_whole(folder, archive.name, sha256=sha256) as partial:
        _unpack(archive, partial)


def _unpack(archive: Path, folder: Path) -> None:
    most = _MOST_GROWN * archive.stat().st_size
    unpack(archive, folder, most=most, members=_MOST_MEMBERS)


def fetch(model: str, folder: Path) -> None:
    """Download a hub model's current revision into `folder` and record that revision.

    A `.nemo` file is unpacked there, and only what came out of it is kept.

    Parameters
    ----------
    model : str
        Hub id, `owner/name` or `owner/name@revision`.

    Raises
    ------
    UserError
        When the hub cannot be reached, does not know the model, or asks for a licence.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    name, _, revision = model.partition("@")
    try:
        info = HfApi().model_info(name, revision=revision or None)
        files = [entry.rfilename for entry in info.siblings or []]
        pickled = [] if any(f.endswith((".safetensors", ".nemo")) for f in files) else PICKLED
        with made_whole(folder, name, revision=info.sha or "") as partial:
            snapshot_download(
                name, revision=info.sha, local_dir=partial, allow_patterns=WANTED + pickled
            )
            shutil.rmtree(partial / ".cache", ignore_errors=True)
            for archive in partial.glob("*.nemo"):
                _unpack(archive, partial)
                archive.unlink()
    except GatedRepoError:
        raise UserError(
            f"{name} asks for a licence: accept it at https://huggingface.co/{name}, put an access "
            "token of that account into the environment variable HF_TOKEN, and run again"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"the hub has no model '{name}', or your HF_TOKEN may not see it; check the name in "
            "the study, or give a local folder under 'models:' in config.yaml"
        ) from None
    except (HTTPError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = without_token(reason)
        raise UserError(
            f"cannot fetch {name} from the hub ({reason}). Run this rule on a machine with "
            f"internet, or copy the model there and add to config.yaml:\n"
            f"  models:\n    {name}: /path/to/{name.rsplit('/', 1)[-1]}"
        ) from None
