"""One file over HTTP into a `.part` file that a later run can go on with.

Written on requests: pooch, the usual choice, does not resume, has no mirrors and reads no
Retry-After; what would be left of it is hashing, which `hashlib` does.

Beside `name.part` lies `name.part.json` with a digest of the address and the server's validator (ETag
or Last-Modified). A transfer is resumed with Range and If-Range when both still fit, so that a file that
was replaced in the meantime starts anew. Where the checksum is known the bytes are proved in the end,
and any mirror may go on with the part of another.
"""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from serflow.acquisition.answers import (
    Interrupted,
    MirrorFault,
    announced_length,
    check_start,
    check_status,
    pieces,
    shown,
    sorted_out,
)
from serflow.acquisition.contents import HEAD
from serflow.acquisition.source import Remote
from serflow.digests import digest
from serflow.errors import UserError

# Less than this beyond all that was reached before does not count as getting on.
_PROGRESS = 1 << 20


@dataclass(frozen=True)
class Patience:
    """How long to wait, and how often to try.

    Attributes
    ----------
    connect_s, stall_s : float
        Seconds until a connection, or a transfer in which nothing arrives, counts as broken.
    attempts : int
        Tries per mirror; those that got on by a megabyte, beyond all before, are not counted.
    pause_s : float
        Seconds before the second try; doubled for each one after it.
    longest_s : float
        Longest pause in seconds. A server that asks for more by Retry-After is given up.
    """

    connect_s: float = 15.0
    stall_s: float = 60.0
    attempts: int = 6
    pause_s: float = 1.0
    longest_s: float = 300.0


def transfer(
    session: requests.Session,
    url: str,
    remote: Remote,
    part: Path,
    patience: Patience,
    arrived: Callable[[int], None] = lambda size: None,
) -> bool:
    """Bring `part` to its full length from one mirror.

    Parameters
    ----------
    session : requests.Session
    url : str
    remote : Remote
    part : Path
        Resumed from, where it fits.
    patience : Patience
    arrived : callable
        Told the length of the part in bytes as it grows.

    Returns
    -------
    bool
        Whether some of the bytes were there before.

    Raises
    ------
    MirrorFault
        The mirror does not have the file, has another, or did not deliver in all its tries.
    UserError
        The disk is full, or too small for the file.
    """
    failed, farthest, resumed = 0, 0, False
    while True:
        try:
            resumed |= _attempt(session, url, remote, part, patience, arrived)
            return resumed
        except Interrupted as interruption:
            # Beyond the farthest: bytes that came a second time are no progress.
            reached = _length(part)
            failed = 1 if reached - farthest >= _PROGRESS else failed + 1
            farthest = max(farthest, reached)
            if interruption.anew:
                discard(part)
            resumed |= _length(part) > 0
            pause = interruption.pause_s
            if pause is None:
                pause = min(patience.pause_s * 2 ** (failed - 1), patience.longest_s)
            if failed >= patience.attempts or pause > patience.longest_s:
                tries = f" ({failed} tries)" if failed > 1 else ""
                asked = f"; it asks for {pause:.0f} s" if pause > patience.longest_s else ""
                raise MirrorFault(f"{interruption}{asked}{tries}") from None
            print(f"{shown(url)}: {interruption}; again in {pause:.0f} s", flush=True)
            time.sleep(pause)


def discard(part: Path) -> None:
    """Remove a part and what is known of it."""
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _attempt(
    session: requests.Session,
    url: str,
    remote: Remote,
    part: Path,
    patience: Patience,
    arrived: Callable[[int], None],
) -> bool:
    have, condition = _resumable(url, remote, part)
    if remote.size is not None:
        if have == remote.size:
            return True
        _check_space(part, remote.size - have)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if condition:
            headers["If-Range"] = condition
    try:
        response = session.get(
            url, headers=headers, stream=True, timeout=(patience.connect_s, patience.stall_s)
        )
    except (requests.RequestException, HTTPError, ValueError) as error:
        # The latter two: requests does not translate what a redirect's address makes of them.
        raise sorted_out(error, patience.connect_s, patience.stall_s) from None
    with response:
        have = check_status(response, have, condition, remote)
        coming = pieces(response, remote.name, patience.stall_s)
        piece = b""
        while len(piece) < HEAD and (more := next(coming, b"")):
            piece += more
        if not have:
            check_start(response, piece, remote)
            _start(part, url, response)
        length, total = have, announced_length(response, have, remote.name)
        most = remote.most if remote.size is None else remote.size
        arrived(length)
        try:
            with part.open("r+b" if have else "wb") as file:
                file.seek(have)
                while piece and length + len(piece) <= most:
                    file.write(piece)
                    length += len(piece)
                    arrived(length)
                    piece = next(coming, b"")
        except OSError as error:
            raise _disk_fault(error, part) from None
    if piece:
        discard(part)
        raise MirrorFault(f"goes on beyond the {most:,} bytes expected; stopped")
    for expected in (remote.size, total):
        if expected is not None and length < expected:
            raise Interrupted(f"broke off at {length:,} of {expected:,} bytes")
    return have > 0


def _resumable(url: str, remote: Remote, part: Path) -> tuple[int, str | None]:
    """Bytes to go on from, and the condition under which they are still good."""
    have = _length(part)
    if remote.size is not None and have > remote.size:
        have = 0
    if not have:
        return 0, None
    try:
        known = json.loads(_validator_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if known.get("address") == digest(url) and known.get("validator"):
        return have, known["validator"]
    return (have, None) if remote.checksum else (0, None)


def _start(part: Path, url: str, response: requests.Response) -> None:
    """Empty the part, and keep what proves later that the rest belongs to the same file.

    Weak ETags prove nothing.
    """
    tag = response.headers.get("ETag", "")
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    try:
        part.open("wb").close()
    except OSError as error:
        raise _disk_fault(error, part) from None
    _validator_file(part).write_text(
        json.dumps({"address": digest(url), "validator": validator}), encoding="utf-8"
    )


def _check_space(part: Path, need: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if need > free:
        raise UserError(
            f"{part.parent}: {need:,} bytes are to be downloaded, {free:,} are free. Make room, or "
            "set `downloads:` in config.yaml to a folder on a larger disk."
        )


def _disk_fault(error: OSError, part: Path) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{part}: no space left. Make room, or set `downloads:` in config.yaml to a folder on a "
            "larger disk, and run again: the download goes on from there."
        )
    return UserError(f"{part}: {error.strerror}")


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")
