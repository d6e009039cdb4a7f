"""A node's own disk: temporary files, and copies of packed audio that training reads at random.

Epochs of random access are what shared file systems do worst; a copy is read once, in one go.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from serflow.digests import digest
from serflow.errors import UserError
from serflow.files import atomic

# Inputs of a fold that are worth a copy, each with the one that says what it holds.
STORES = {"samples": "index", "sound_samples": "sound_index"}
BLOCK = 1 << 22
SAMPLED_BLOCKS, SAMPLED_BYTES = 64, 1 << 12


def scratch_folder(setting: str | None) -> Path | None:
    """The folder of `scratch` in config.yaml, made if need be; None where there is none.

    Parameters
    ----------
    setting : str or None
        May hold environment variables of the node, as `$SLURM_TMPDIR` or `/local/$SLURM_JOB_ID`.

    Raises
    ------
    UserError
        A Slurm job lacks a variable, or may not write there. Outside of one the setting is passed
        over: the login node has other disks.
    """
    if not setting:
        return None
    path = os.path.expandvars(setting)
    in_job = "SLURM_JOB_ID" in os.environ
    if "$" in path:
        if not in_job:
            return None
        raise UserError(
            f"config.yaml: scratch is {setting!r}, and this node has no such variable: {path}"
        )
    folder = Path(path).expanduser() / f"serflow-{os.getuid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if not in_job:
            return None
        raise UserError(
            f"config.yaml: scratch is {setting!r}: {folder}: {error.strerror}"
        ) from None
    return folder


@contextmanager
def temporary_files_in(folder: Path | None) -> Iterator[None]:
    """Temporary files go into a folder of scratch; nothing changes where it is None."""
    if folder is None:
        yield
        return
    before, own = os.environ.get("TMPDIR"), tempfile.mkdtemp(dir=folder, prefix="tmp-")
    os.environ["TMPDIR"], tempfile.tempdir = own, None
    try:
        yield
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None
        shutil.rmtree(own, ignore_errors=True)


def staged_inputs(
    files: Mapping[str, Sequence[str]], folder: Path | None
) -> dict[str, Sequence[str]]:
    """A fold's inputs, with copies in `folder` in place of its packed audio.

    Parameters
    ----------
    files : mapping of str to sequence of str
        As `serflow.systems.inputs` reads them.
    folder : Path or None
        None: the files as they are.
    """
    found = dict(files)
    for samples, index in STORES.items():
        if folder is not None and found.get(samples):
            pairs = zip(found[samples], found[index], strict=True)
            found[samples] = [str(staged(Path(one), Path(other), folder)) for one, other in pairs]
    return found


def staged(samples: Path, index: Path, folder: Path) -> Path:
    """A copy of a packed store in `folder`, which jobs on one node share; itself where that is full.

    A copy has its final name once it is whole and equal, byte for byte. The name is a digest over the
    index, size and date of the store and a sample of its bytes: one that is packed anew gets another.

    Parameters
    ----------
    samples, index : Path
        Of one store, as `serflow.packing` writes them.
    folder : Path
        On the node's own disk.
    """
    stat = samples.stat()
    facts = f"{stat.st_size} {stat.st_mtime_ns}"
    key = digest(facts, index.read_bytes(), _sample(samples, stat.st_size))
    copy = folder / f"{samples.stem}-{key}{samples.suffix}"
    with (folder / f".{copy.name}.lock").open("w") as lock:
        # The second job of a node waits for the first one's copy.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if copy.is_file() and copy.stat().st_size == stat.st_size:
            return copy
        free = shutil.disk_usage(folder).free
        if free < stat.st_size * 1.05:
            print(f"{folder} has {free} bytes free, and {samples} needs {stat.st_size}: not copied")
            return samples
        _copy(samples, copy)
    return copy


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as partial:
        with source.open("rb") as reading, partial.open("wb") as writing:
            sent = _pass(reading, writing)
            writing.flush()
            os.fsync(writing.fileno())
        with partial.open("rb") as reading:
            arrived = _pass(reading)
        if sent != arrived:
            raise OSError(
                f"{target} is not what was read of {source}: is the disk of this node sound?"
            )


def _pass(reading, writing=None) -> str:
    sha = hashlib.blake2b()
    while block := reading.read(BLOCK):
        sha.update(block)
        if writing is not None:
            writing.write(block)
    return sha.hexdigest()


def _sample(path: Path, size: int) -> bytes:
    step = max(SAMPLED_BYTES, size // SAMPLED_BLOCKS)
    found = b""
    with path.open("rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            found += file.read(SAMPLED_BYTES)
    return found
