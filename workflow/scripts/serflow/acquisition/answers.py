"""What a server's answer means: go on, try again, or ask another mirror."""

from __future__ import annotations

import re
import socket
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from serflow.acquisition.source import Remote

_CHUNK = 1 << 16
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_NOT_DATA = {
    b"version https://git-lfs": "a git-LFS pointer instead of the file",
    b"<!doctype html": "a web page instead of the file: it wants a login, or the file has moved",
    b"<html": "a web page instead of the file: it wants a login, or the file has moved",
}


class MirrorFault(Exception):  # noqa: N818 - a fault of the mirror, not an error of ours
    """Why one mirror did not give the file; the next one may."""


class Interrupted(Exception):  # noqa: N818 - a try may be interrupted and go on
    """Why one try failed; the same mirror may go on.

    Attributes
    ----------
    pause_s : float or None
        Seconds that the server asks to wait.
    anew : bool
        What is here is of no use.
    """

    def __init__(self, reason: str, pause_s: float | None = None, anew: bool = False) -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        self.anew = anew


def shown(url: str) -> str:
    """An address fit for logs: no user, no password, no query (pre-signed addresses hold keys)."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def disguised(head: bytes) -> str | None:
    """What the first bytes show to be no data file, in a phrase."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((what for sign, what in _NOT_DATA.items() if start.startswith(sign)), None)


def check_status(
    response: requests.Response, have: int, condition: str | None, size: int | None
) -> int:
    """Bytes that the body goes on from.

    Parameters
    ----------
    response : requests.Response
    have : int
        Bytes that were not asked for.
    condition : str or None
        The validator under which they are still good.
    size : int or None
        Bytes of the whole file.

    Raises
    ------
    Interrupted
        The server is busy, or its range does not fit.
    MirrorFault
        It does not have the file or does not give it.
    """
    status = response.status_code
    if status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        fits = found and int(found[1]) == have > 0
        if found and found[2] != "*" and size is not None:
            fits = fits and int(found[2]) == size
        if condition and condition.startswith('"'):  # some servers take no notice of If-Range
            fits = fits and response.headers.get("ETag", condition) == condition
        if not fits:
            raise Interrupted("sent another range than asked for; starting anew", anew=True)
        return have
    if status == 200:
        return 0
    if status == 416:
        raise Interrupted("has no bytes beyond those that are here; starting anew", anew=True)
    if status in _TRY_AGAIN:
        raise Interrupted(f"HTTP {status} {response.reason}", _retry_after(response))
    hint = {401: ", it wants a login", 403: ", it wants a login or refuses this network"}
    raise MirrorFault(f"HTTP {status} {response.reason}{hint.get(status, '')}")


def check_start(response: requests.Response, first: bytes, remote: Remote) -> None:
    """Refuse what is not the file before its first byte is written.

    Raises
    ------
    MirrorFault
        A web page, a git-LFS pointer, or another length than expected.
    """
    what = disguised(first)
    announced = announced_length(response, 0)
    if what is None and remote.size is not None and announced not in (None, remote.size):
        what = f"{announced:,} bytes by its Content-Length, {remote.size:,} expected"
    if what is not None:
        raise MirrorFault(f"sends {what}")


def announced_length(response: requests.Response, have: int) -> int | None:
    """The whole file's length in bytes by the headers."""
    length = response.headers.get("Content-Length", "")
    if not length.isdigit() or response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    return have + int(length)


def read_piece(response: requests.Response, stall_s: float) -> bytes:
    """The bytes that came in: `iter_content` would lose a broken piece, up to a chunk."""
    try:
        return response.raw.read1(_CHUNK, decode_content=True)
    except ReadTimeoutError:
        raise Interrupted(f"stalled: nothing for {stall_s:g} s") from None
    except (HTTPError, OSError):
        raise Interrupted("the connection broke") from None


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that a server asks to wait."""
    text = response.headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def sorted_out(
    error: requests.RequestException, connect_s: float, stall_s: float
) -> MirrorFault | Interrupted:
    """The fault in a few words of our own: the library's hold the whole address, keys and all."""
    if isinstance(error, requests.exceptions.SSLError):
        return MirrorFault("its certificate is not accepted, or the connection is not encrypted")
    if isinstance(error, requests.exceptions.ProxyError):
        return MirrorFault("the proxy does not connect; see HTTPS_PROXY and HTTP_PROXY")
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return MirrorFault("redirects in a circle")
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Interrupted(f"no connection within {connect_s:g} s")
    if isinstance(error, requests.exceptions.ReadTimeout):
        return Interrupted(f"stalled: nothing for {stall_s:g} s")
    if isinstance(error, requests.ConnectionError):
        if _unknown_name(error):
            return MirrorFault("a name unknown here: has this machine no internet?")
        return Interrupted("cannot be reached, or reset the connection")
    return MirrorFault(f"{type(error).__name__}")


def _unknown_name(error: requests.ConnectionError) -> bool:
    """Whether the resolver is sure that there is no such name; "try again later" is not sure."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    cause = getattr(reason, "__cause__", None)
    return isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
