"""What a server's answer means: go on, try again, or ask another mirror."""

from __future__ import annotations

import gzip
import re
import socket
import time
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from serflow.acquisition.contents import disguised
from serflow.acquisition.source import Remote

_CHUNK = 1 << 16
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_GZIP = {"gzip", "x-gzip"}
# Names that are none, such as S3's "aws-chunked", are not here: the bytes are as they should be.
_UNREADABLE = {"deflate", "compress", "br", "zstd"}


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
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def check_status(
    response: requests.Response, have: int, condition: str | None, remote: Remote
) -> int:
    """Bytes that the body goes on from.

    Parameters
    ----------
    response : requests.Response
    have : int
        Bytes that were not asked for.
    condition : str or None
        The validator under which they are still good.
    remote : Remote

    Raises
    ------
    Interrupted
        The server is busy, or its range does not fit.
    MirrorFault
        It does not have the file or does not give it.
    """
    status = response.status_code
    if status == 206:
        span = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", span)
        # A range of a compressed body counts other bytes than those that are here.
        fits = found and int(found[1]) == have > 0 and not _compressed(response, remote.name)
        if found and found[2] != "*" and remote.size is not None:
            fits = fits and int(found[2]) == remote.size
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
        A web page, a git-LFS pointer, what cannot be of that name, or another length than expected.
    """
    what = disguised(first, remote.name, bool(remote.checksum))
    announced = announced_length(response, 0, remote.name)
    if what is None and remote.size is not None and announced not in (None, remote.size):
        what = f"{announced:,} bytes by its Content-Length, {remote.size:,} expected"
    if what is not None:
        raise MirrorFault(f"sends {what}")


def announced_length(response: requests.Response, have: int, name: str) -> int | None:
    """The whole file's length in bytes by the headers."""
    length = response.headers.get("Content-Length", "")
    if not re.fullmatch("[0-9]{1,18}", length) or _compressed(response, name):
        return None
    return have + int(length)


def pieces(response: requests.Response, name: str, stall_s: float) -> Iterator[bytes]:
    """The bytes as they come in.

    `iter_content` would lose a broken piece, up to a chunk, and urllib3 takes a compressed body
    that ends early for a whole one.

    Raises
    ------
    Interrupted
        Nothing comes, or the body ends early.
    MirrorFault
        It is compressed in a way that was not asked for.
    """
    compressed = _compressed(response, name)
    body = gzip.GzipFile(fileobj=response.raw, mode="rb") if compressed else response.raw
    while True:
        try:
            piece = body.read1(_CHUNK)
        except ReadTimeoutError:
            raise Interrupted(f"stalled: nothing for {stall_s:g} s", anew=compressed) from None
        except EOFError:
            raise Interrupted("its compressed body ends early", anew=True) from None
        except (HTTPError, OSError, zlib.error):
            raise Interrupted("the connection broke", anew=compressed) from None
        if not piece:
            return
        yield piece


def _compressed(response: requests.Response, name: str) -> bool:
    """Whether the body is the file, compressed by gzip for the way."""
    header = response.headers.get("Content-Encoding", "").lower()
    encodings = {encoding.strip() for encoding in header.split(",")}
    if encodings & _UNREADABLE:
        raise MirrorFault(f"sends it compressed by '{header}', which was not asked for")
    # Some servers call a file so that is a gzip itself.
    return bool(encodings & _GZIP) and not name.lower().endswith((".gz", ".tgz"))


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that a server asks to wait."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def sorted_out(
    error: requests.RequestException | HTTPError | ValueError, connect_s: float, stall_s: float
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
    if isinstance(error, ValueError):
        return MirrorFault(
            f"an address on the way, or a header, is malformed ({type(error).__name__})"
        )
    return MirrorFault(f"{type(error).__name__}")


def _unknown_name(error: requests.ConnectionError) -> bool:
    """Whether the resolver is sure that there is no such name; "try again later" is not sure."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    cause = getattr(reason, "__cause__", None)
    return isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
