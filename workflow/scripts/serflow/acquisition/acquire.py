"""One corpus from its source to a folder: fetched, verified, unpacked, recorded."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from serflow.acquisition.download import Fetched, fetch, fetch_all
from serflow.acquisition.repositories import files_behind, files_of
from serflow.acquisition.source import Source
from serflow.acquisition.transfer import Patience
from serflow.acquisition.unpack import SUFFIXES, Unpacked, assembled, scratch, unpack
from serflow.errors import UserError, name_some


def acquire(
    corpus: str,
    source: Source,
    downloads: Path,
    folder: Path,
    patience: Patience | None = None,
) -> dict[str, Any]:
    """Fetch an open corpus and lay it out in `folder`.

    All files are fetched and verified before the first one is unpacked; an archive for which nobody
    publishes a checksum is verified by a trial of unpacking it. They stay in
    `downloads / source.name`, where files put there by hand are used as well; those that are not
    unpacked are linked from there, or copied where the disk is another.

    Only one run at a time works on a source's downloads: it holds a lock that the system takes back
    when the process ends, however it ends. Others wait, then find the files there.

    Parameters
    ----------
    corpus : str
        Its key under `paths` in config.yaml, for messages.
    source : Source
    downloads : Path
    folder : Path
        Whole or absent afterwards; replaced if it is there.
    patience : Patience, optional

    Returns
    -------
    dict
        For the record: what was fetched from where, with sizes and digests, and what `folder`
        holds (files and bytes).

    Raises
    ------
    UserError
        The corpus is not open, a file cannot be had from any mirror, an archive is not fit to be
        unpacked, or the disk is full.
    """
    store = downloads / source.name
    try:
        if not source.is_open:
            raise UserError(f"{source.title} is not open ({source.terms}); ask at {source.home}")
        with _alone(store):
            fetched = _fetch(source, store, folder, patience)
            with assembled(folder, source.strip) as inside:
                unpacked = _lay_out(source, store, fetched, inside)
    except (UserError, OSError) as error:
        raise UserError(
            f"corpus '{corpus}': {error}\nOr set `paths: {{{corpus}: ...}}` in config.yaml to a "
            f"folder that holds {source.holds}."
        ) from None
    return {
        "corpus": corpus,
        "source": source.name,
        "title": source.title,
        "home": source.home,
        "terms": source.terms,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fetched": [asdict(file) for file in fetched],
        "folder": asdict(unpacked),
    }


def _fetch(source: Source, store: Path, folder: Path, patience: Patience | None) -> list[Fetched]:
    """All files of a source, and those that list them, verified."""
    fetched = []
    for remote in (*source.archives, *source.files):
        check = partial(_try_out, source, folder) if _is_archive(remote.name) else None
        fetched.append(fetch(remote, store, patience, check=check))
    for record in source.records:
        fetched.append(fetch(record.listing, store, patience, check=partial(files_of, record)))
        fetched += fetch_all(files_of(record, store / record.listing.name), store, patience)
    for tree in source.trees:
        fetched.append(fetch(tree.pointers, store, patience, check=partial(files_behind, tree)))
        fetched += fetch_all(files_behind(tree, store / tree.pointers.name), store, patience)
    return fetched


def _is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _try_out(source: Source, folder: Path, archive: Path) -> None:
    """Unpack an archive for nothing: where no checksum is published that is the only proof."""
    with scratch(folder) as trial:
        unpack(archive, trial, source.unpacked, source.members)


def _lay_out(source: Source, store: Path, fetched: list[Fetched], inside: Path) -> Unpacked:
    listings = {record.listing.name for record in source.records}
    listings |= {tree.pointers.name for tree in source.trees}
    parts = [file for file in fetched if file.name not in listings]
    archives = [file.name for file in parts if _is_archive(file.name)]
    files = size = left_out = 0
    for name in archives:
        found = unpack(store / name, inside, source.unpacked - size, source.members)
        files, size = files + found.files, size + found.size
        left_out += found.left_out
    for file in parts:
        if file.name not in archives:
            _link(store / file.name, inside / file.name, archives)
            files, size = files + 1, size + file.size
    return Unpacked(files, size, left_out)


def _link(path: Path, target: Path, archives: list[str]) -> None:
    """Put a file where it belongs, unless an archive has put another one there.

    Raises
    ------
    UserError
        There is one.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except FileExistsError:
            raise
        except OSError:  # another disk, or one without links
            with path.open("rb") as original, target.open("xb") as copy:
                shutil.copyfileobj(original, copy)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"{path}: its place is taken by what was unpacked from {name_some(archives)}; which of "
            "the two is meant cannot be told. Please report this."
        ) from None


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Hold the lock of a source's downloads, waiting for whoever holds it."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = (store / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"{store}: {error.strerror}. Set `downloads:` in config.yaml to a folder that can be "
            "written to."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run is at work in {store}; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems have no locks; what is fetched is verified in any case.
            print(f"{store}: no locks here ({error.strerror}); go on without", flush=True)
        yield
