"""Files from mirrors, whole and verified under their final names, one or many at once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import requests
from tqdm import tqdm

from serflow.acquisition.answers import MirrorFault, shown
from serflow.acquisition.contents import Unfit, disguised
from serflow.acquisition.source import Remote
from serflow.acquisition.transfer import Patience, discard, transfer
from serflow.errors import UserError

AT_ONCE = 8
# A repository that fails this often is not worth the pauses of thousands of files.
_ENOUGH_FAULTS = 5
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """A file that is here and verified, for the record.

    Attributes
    ----------
    name : str
    url : str
        The mirror it came from, without query; empty where it lay there already.
    size : int
        Bytes.
    sha256 : str
    checksum : str or None
        The published one that it was compared with.
    unverified : str
        Why there was none.
    date : str
        When it was fetched or found, UTC, ISO 8601.
    """

    name: str
    url: str
    size: int
    sha256: str
    checksum: str | None
    unverified: str
    date: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), compare=False
    )


def fetch(
    remote: Remote,
    folder: Path,
    patience: Patience | None = None,
    session: requests.Session | None = None,
    bar: bool = True,
    check: Callable[[Path], object] | None = None,
) -> Fetched:
    """Bring one file to `folder / remote.name`.

    A file that lies there and is right is taken without touching the network. One that is wrong is
    set aside as `name.rejected`. A part that an earlier run left is gone on with. Size and checksum
    are right before the file gets its name. One without a checksum is shown to its reader as well:
    if it is not fit it is set aside, and the next mirror is asked.

    Parameters
    ----------
    remote : Remote
    folder : Path
    patience : Patience, optional
    session : requests.Session, optional
    bar : bool
        Show the bytes as they come.
    check : callable, optional
        Raises `Unfit` for a file that its reader cannot use. Not asked where there is a checksum.

    Raises
    ------
    UserError
        No mirror gave the file (each one's fault is named), or the disk is full.
    """
    path = folder / remote.name
    path.parent.mkdir(parents=True, exist_ok=True)
    faults = []
    if path.is_file():
        try:
            return _fit(_verified(remote, path, ""), path, check)
        except MirrorFault as fault:
            faults.append(f"{path} as it lay here: {fault}; moved to {_set_aside(path)}")
    part = path.with_name(path.name + ".part")
    with (
        nullcontext(session) if session else requests.Session() as used,
        tqdm(
            total=remote.size,
            desc=Path(remote.name).name,
            unit="B",
            unit_scale=True,
            mininterval=1.0,
            disable=not bar,
        ) as progress,
    ):
        for url in remote.urls:
            try:
                fetched = _from_mirror(used, url, remote, part, patience or Patience(), progress)
                part.replace(path)
                discard(part)
                return _fit(fetched, path, check)
            except MirrorFault as fault:
                aside = f"; moved to {_set_aside(path)}" if path.is_file() else ""
                faults.append(f"{shown(url)}: {fault}{aside}")
                if bar:
                    print(faults[-1], flush=True)
    size = f"{remote.size:,} bytes" if remote.size is not None else "size unknown"
    raise UserError(
        f"cannot get {remote.name} ({size}, {remote.checksum or 'no published checksum'}):\n"
        + "".join(f"  {fault}\n" for fault in faults)
        + f"Run again to go on where it broke off, or download it by hand to {path} and run again."
    )


def _fit(fetched: Fetched, path: Path, check: Callable[[Path], object] | None) -> Fetched:
    """What its reader says of a file that nothing else vouches for."""
    if check and not fetched.checksum:
        try:
            check(path)
        except Unfit as fault:
            raise MirrorFault(str(fault)) from None
    return fetched


def _set_aside(path: Path) -> str:
    """The new name of a file that would be taken for the right one for ever."""
    aside = path.with_name(path.name + ".rejected")
    path.replace(aside)
    return aside.name


def _from_mirror(
    session: requests.Session,
    url: str,
    remote: Remote,
    part: Path,
    patience: Patience,
    progress: tqdm,
) -> Fetched:
    def arrived(length: int) -> None:
        progress.update(length - progress.n)

    resumed = transfer(session, url, remote, part, patience, arrived)
    try:
        return _verified(remote, part, url)
    except MirrorFault:
        # Never to be resumed from. Bytes of two days or two mirrors get one try as one whole.
        discard(part)
        if not resumed:
            raise
    transfer(session, url, remote, part, patience, arrived)
    try:
        return _verified(remote, part, url)
    except MirrorFault:
        discard(part)
        raise


def _verified(remote: Remote, path: Path, url: str) -> Fetched:
    """Compare size and checksum with the expected ones.

    Raises
    ------
    MirrorFault
        They differ, or the file is a web page, a git-LFS pointer or not what its name says.
    """
    kind, _, expected = (remote.checksum or "sha256:").partition(":")
    size = path.stat().st_size
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", kind}}
    with path.open("rb") as file:
        what = disguised(file.read(_BLOCK), remote.name, bool(remote.checksum))
        if what is None and remote.size is not None and size != remote.size:
            what = f"{size:,} bytes, {remote.size:,} expected"
        if what is None and remote.size is None and not size:
            what = "empty"
        if what is not None:
            raise MirrorFault(f"is {what}")
        file.seek(0)
        while block := file.read(_BLOCK):
            for digest in hashes.values():
                digest.update(block)
    if expected and hashes[kind].hexdigest() != expected:
        raise MirrorFault(
            f"wrong checksum: {kind}:{hashes[kind].hexdigest()}, {remote.checksum} expected"
        )
    return Fetched(
        name=remote.name,
        url=shown(url) if url else "",
        size=size,
        sha256=hashes["sha256"].hexdigest(),
        checksum=remote.checksum,
        unverified="" if remote.checksum else remote.unverified,
    )


def fetch_all(
    remotes: Sequence[Remote],
    folder: Path,
    patience: Patience | None = None,
    at_once: int = AT_ONCE,
) -> list[Fetched]:
    """Bring many small files to `folder`, several at once; the results are in the order given.

    All have the same mirrors in the same order. One that failed is asked last from then on: its
    pauses, times thousands of files, would take hours.

    Raises
    ------
    UserError
        Names the files that failed. After five faults the rest is not tried.
    """
    sessions = threading.local()
    failing: set[int] = set()

    def one(remote: Remote) -> Fetched:
        # A session is not safe to share between threads.
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()
        order = sorted(range(len(remote.urls)), key=failing.__contains__)
        urls = tuple(remote.urls[mirror] for mirror in order)
        fetched = fetch(replace(remote, urls=urls), folder, patience, sessions.own, bar=False)
        if fetched.url:
            tried = order[: [shown(url) for url in urls].index(fetched.url) + 1]
            failing.discard(tried[-1])
            failing.update(tried[:-1])
        return fetched

    done: dict[int, Fetched] = {}
    faults: list[UserError] = []
    with (
        ThreadPoolExecutor(at_once) as pool,
        tqdm(total=len(remotes), desc="files", unit="file", mininterval=1.0) as progress,
    ):
        numbers = {pool.submit(one, remote): number for number, remote in enumerate(remotes)}
        try:
            for future in as_completed(numbers):
                try:
                    done[numbers[future]] = future.result()
                except UserError as error:
                    faults.append(error)
                    if len(faults) >= _ENOUGH_FAULTS:
                        break
                progress.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if faults:
        details = "\n".join(map(str, faults))
        raise UserError(
            f"{len(faults)} of {len(remotes)} files failed, {len(done)} are here:\n{details}"
        )
    return [done[number] for number in range(len(remotes))]
