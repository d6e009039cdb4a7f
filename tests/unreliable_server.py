"""A web server on the loopback that fails in the ways in which real ones do.

    with UnreliableServer({"/a.zip": data}) as server:
        server.fail("/a.zip", cut_off(1000), status(503))
        fetch(Remote("a.zip", (server.url("/a.zip"),), ...), folder)
        assert server.sent["/a.zip"] == ...

Each request for a path uses up the first of its faults; without one the file is served properly, with
Range, If-Range and ETag.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONGEST_S = 10.0  # no request is held longer, whatever a test does
PIECE = 1 << 16


class UnreliableServer(ThreadingHTTPServer):
    """Serves bytes by path; knows what it was asked for and how many bytes it sent.

    Attributes
    ----------
    files : dict of str to bytes
    asked : dict of str to list of (str or None)
        The Range headers of the requests, by path.
    sent : Counter
        Bytes of bodies, by path.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files or {})
        self.asked: dict[str, list[str | None]] = defaultdict(list)
        self.sent: Counter[str] = Counter()
        self.closing = threading.Event()
        self._faults: dict[str, list[Fault]] = defaultdict(list)
        self._lock = threading.Lock()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def fail(self, path: str, *faults: Fault) -> None:
        self._faults[path] += faults

    def next_fault(self, path: str) -> Fault | None:
        with self._lock:
            return self._faults[path].pop(0) if self._faults[path] else None

    def count(self, path: str, size: int) -> None:
        with self._lock:
            self.sent[path] += size

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are the point."""

    def __enter__(self) -> UnreliableServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = LONGEST_S
    server: UnreliableServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked[path].append(self.headers.get("Range"))
        body = self.server.files.get(path)
        fault = self.server.next_fault(path)
        if fault:
            fault(self, body)
        elif body is None:
            self.answer(404, b"not here")
        else:
            self.serve(body)

    def serve(self, body: bytes) -> None:
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not found or self.headers.get("If-Range", tag) != tag:
            return self.answer(200, body, {"ETag": tag})
        start = int(found[1])
        if start >= len(body):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return self.answer(206, body[start:], {"ETag": tag, "Content-Range": span})

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.begin(code, {"Content-Length": str(len(body)), **(headers or {})})
        self.send(body)

    def begin(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes) -> None:
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            # Counted first: the client may be done before this thread goes on.
            self.server.count(self.path.partition("?")[0], len(piece))
            self.wfile.write(piece)

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests look at `asked` and `sent`."""


Fault = Callable[[Handler, bytes | None], None]


def headers_of(body: bytes) -> dict[str, str]:
    tag = hashlib.sha256(body).hexdigest()[:16]
    return {"Content-Length": str(len(body)), "ETag": f'"{tag}"'}


def cut_off(size: int) -> Fault:
    """Promise the whole file, hang up after `size` bytes."""

    def fault(handler: Handler, body: bytes) -> None:
        handler.begin(200, headers_of(body))
        handler.send(body[:size])
        handler.hang_up()

    return fault


def cut_off_again(size: int) -> Fault:
    """Go on where Range asks for it, hang up after `size` more bytes."""

    def fault(handler: Handler, body: bytes) -> None:
        send, handler.send = handler.send, lambda rest: send(rest[:size])
        handler.serve(body)
        handler.send = send
        handler.hang_up()

    return fault


def reset(size: int) -> Fault:
    """Reset the connection after `size` bytes, as a NAT or a firewall does."""

    def fault(handler: Handler, body: bytes) -> None:
        handler.begin(200, headers_of(body))
        handler.send(body[:size])
        handler.wfile.flush()
        handler.server.closing.wait(0.1)  # a reset overtakes bytes that were not read yet
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.hang_up()

    return fault


def stall(size: int) -> Fault:
    """Say no more after `size` bytes."""

    def fault(handler: Handler, body: bytes) -> None:
        handler.begin(200, headers_of(body))
        handler.send(body[:size])
        handler.wfile.flush()
        handler.server.closing.wait(LONGEST_S)
        handler.hang_up()

    return fault


def status(code: int, **headers: str) -> Fault:
    def fault(handler: Handler, body: bytes | None) -> None:
        handler.answer(code, b"", {k.replace("_", "-"): v for k, v in headers.items()})

    return fault


def whole_file(handler: Handler, body: bytes) -> None:
    """Take no notice of Range."""
    handler.answer(200, body)


def instead(other: bytes) -> Fault:
    """Send something else with a good conscience: a login page, a pointer, a damaged file."""

    def fault(handler: Handler, body: bytes | None) -> None:
        handler.answer(200, other)

    return fault


def encoded(encoding: str, body: bytes) -> Fault:
    """Send the body under a Content-Encoding that was not asked for."""

    def fault(handler: Handler, _: bytes | None) -> None:
        handler.answer(200, body, {"Content-Encoding": encoding})

    return fault


def endless(handler: Handler, body: bytes) -> None:
    """Send the file and then more and more, of no announced length."""
    handler.begin(200, {"Connection": "close"})
    handler.send(body)
    with contextlib.suppress(OSError):
        for _ in range(1000):
            handler.send(bytes(PIECE))
    handler.hang_up()


def other_range(handler: Handler, body: bytes) -> None:
    """Answer a Range with bytes from another place."""
    span = {"Content-Range": f"bytes 1-{len(body) - 1}/{len(body)}"}
    handler.answer(206, body[1:], span)


def range_of_another_file(other: bytes) -> Fault:
    """Take no notice of If-Range, though the file was replaced."""

    def fault(handler: Handler, body: bytes) -> None:
        del handler.headers["If-Range"]
        handler.serve(other)

    return fault
