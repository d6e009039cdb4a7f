"""Whether a file can be what its name says, by its first bytes.

Where a checksum is published it says more. Where none is, a server that answers 200 with a page or
an error in JSON would otherwise be taken at its word.
"""

from __future__ import annotations

from serflow.errors import UserError

HEAD = 64  # bytes that tell; more are looked at for a page that begins with blank lines
_SHOWN = 40

_PAGE = "a web page instead of the file: it wants a login, or the file has moved"
_XML = "an XML message instead of the file"
_NOT_DATA = {
    b"version https://git-lfs": "a git-LFS pointer instead of the file",
    b"<!doctype": _PAGE,
    b"<!--": _PAGE,
    b"<html": _PAGE,
    b"<head": _PAGE,
    b"<body": _PAGE,
    b"<title": _PAGE,
    b"<meta": _PAGE,
    b"<script": _PAGE,
    b"<?xml": _XML,
    b"<error": _XML,
}
_MARKUP = (".html", ".htm", ".xml")
_MAGIC = {  # an old .tar has none; unpacking shows what it is
    (".zip",): (b"PK",),
    (".gz", ".tgz"): (b"\x1f\x8b",),
    (".bz2", ".tbz2"): (b"BZh",),
    (".xz", ".txz"): (b"\xfd7zXZ\0",),
    (".wav",): (b"RIFF", b"RIFX", b"RF64"),
}
_TEXT = (".csv", ".tsv", ".txt")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f"))
_BLANK = b"\xef\xbb\xbf \t\r\n"


class Unfit(UserError):  # noqa: N818 - a fault of the file, not an error of ours
    """A file that cannot be used as what it should be; another mirror may have the right one."""


def disguised(head: bytes, name: str, proved: bool) -> str | None:
    """What the first bytes show to be another file than the name says, in a phrase.

    Parameters
    ----------
    head : bytes
        The first `HEAD` bytes or more, or all of a shorter file.
    name : str
    proved : bool
        A checksum is known. Then the name is not taken for a promise.
    """
    name = name.lower()
    start = head.lstrip(_BLANK).lower()
    for sign, what in _NOT_DATA.items():
        if start.startswith(sign) and not name.endswith(_MARKUP):
            return what
    if proved or not head or _fits(head, start, name):
        return None
    return f"no .{name.rpartition('.')[2]} file: it begins with {head[:_SHOWN]!r}"


def _fits(head: bytes, start: bytes, name: str) -> bool:
    for suffixes, signs in _MAGIC.items():
        if name.endswith(suffixes):
            return head.startswith(signs)
    if name.endswith(".json"):
        return start.startswith((b"{", b"["))
    if name.endswith(_TEXT) and head[:HEAD].translate(None, _CONTROL) != head[:HEAD]:
        return False
    return not (name.endswith((".csv", ".tsv")) and start.startswith((b"<", b"{", b"[")))
