"""What the container of an audio file declares of its samples, and whether the file holds it.

libsndfile reads a file that was cut off without a word: its lengths follow the file.
"""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path
from typing import NamedTuple

from serflow.errors import UserError

# Enough for the chunks before the samples of nearly every WAV.
_HEAD = 4096
# Writers to a pipe cannot know the length: ffmpeg leaves 0xFFFFFFFF, sox 0x7FFFF000 and, in AIFF,
# 0x7F000000. RF64 and W64 count in 64 bits.
_UNKNOWN_LENGTH, UNKNOWN_LONG = 0x7F00_0000, 2**48
ANEW = "write it anew, e.g. `ffmpeg -i OLD -c:a flac NEW.flac`"
_NOT_AUDIO = {
    b"version https://git-lfs": "a git-LFS pointer, not the audio: run `git lfs pull` there",
    b"<!doctype html": "a web page, not audio: the download needs a login or has moved",
    b"<html": "a web page, not audio: the download needs a login or has moved",
}


class AudioFault(UserError):  # noqa: N818 - a fault of the file, not an error of ours
    """One file that cannot serve as speech.

    Attributes
    ----------
    path : Path
    reason : str
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Declared(NamedTuple):
    """What a container says of its samples, in bytes.

    Attributes
    ----------
    size : int
        The whole file's.
    start : int
        Where the samples begin; 0 where the container's format is not looked into.
    length : int
        Of the samples; 0 if not told.
    surplus : int
        After the samples, in no chunk, and not read by libsndfile.
    """

    size: int
    start: int = 0
    length: int = 0
    surplus: int = 0


class _Chunked(NamedTuple):
    """A container of chunks, each with a header of its name and length."""

    name: str
    header: struct.Struct
    samples: bytes
    first: int = 12
    # W64 counts the header in and pads to 8 bytes.
    inclusive: bool = False
    align: int = 2


_CHUNKED = {
    b"RIFF": _Chunked("RIFF", struct.Struct("<4sI"), b"data"),
    b"RIFX": _Chunked("RIFX", struct.Struct(">4sI"), b"data"),
    b"RF64": _Chunked("RF64", struct.Struct("<4sI"), b"data"),
    b"FORM": _Chunked("AIFF", struct.Struct(">4sI"), b"SSND"),
    b"riff": _Chunked("W64", struct.Struct("<16sQ"), b"data", 40, True, 8),
}
_AU = {b".snd": ">II", b"dns.": "<II"}


def refuse_what_is_not_audio(path: Path, descriptor: int) -> Declared:
    """Faults that libsndfile words badly ("Format not recognised") or does not see at all."""
    try:
        head = os.pread(descriptor, _HEAD, 0)
        if not head:
            raise AudioFault(path, "empty (0 bytes)")
        for sign, reason in _NOT_AUDIO.items():
            if head[: len(sign)].lower() == sign:
                raise AudioFault(path, reason)
        return _refuse_what_is_cut_off(path, descriptor, head)
    except OSError as error:
        raise AudioFault(path, f"cannot be opened ({error.strerror})") from None


def _refuse_what_is_cut_off(path: Path, descriptor: int, head: bytes) -> Declared:
    """Compare the declared length with the file's: libsndfile trusts the shorter silently."""
    size, magic = os.fstat(descriptor).st_size, head[:4]
    name, start, length, surplus = "", 0, 0, 0
    if magic in _CHUNKED:
        name = _CHUNKED[magic].name
        start, length, surplus = _samples_chunk(descriptor, head, size, _CHUNKED[magic])
    elif magic in _AU and len(head) >= 12:
        name = "AU"
        start, length = struct.unpack_from(_AU[magic], head, 4)
        length = 0 if length >= _UNKNOWN_LENGTH else length
        surplus = max(size - start - length, 0) if length else 0
    elif head[:7] == b"NIST_1A":
        name = "SPHERE"
        start, length = _sphere(head)
    elif magic == b"OggS":
        _refuse_cut_ogg(path, os.pread(descriptor, size, 0))
    if start + length > size and length:
        raise AudioFault(
            path,
            f"cut off: its {name} header promises {length} bytes of samples, "
            f"the file holds {max(size - start, 0)}",
        )
    return Declared(size, start, length, surplus)


def _samples_chunk(
    descriptor: int, head: bytes, size: int, layout: _Chunked
) -> tuple[int, int, int]:
    """First byte and length of the samples (0 if not told), and bytes after them in no chunk."""
    position, found, long_length = layout.first, None, 0
    step = layout.header.size
    while position + step <= size:
        chunk = head[position : position + step]
        if len(chunk) < step:
            chunk = os.pread(descriptor, step, position)
        name, length = layout.header.unpack(chunk)
        position += step
        if layout.inclusive:
            length = max(length - step, 0)
        if found is None and name[:4] == layout.samples:
            if layout.name == "RF64" and length == 0xFFFF_FFFF:
                length = long_length
            wide = layout.inclusive or layout.name == "RF64"
            if length >= (UNKNOWN_LONG if wide else _UNKNOWN_LENGTH):
                return position, 0, 0
            found = position, length
        elif found is not None:
            # libsndfile takes the samples of a W64 to the file's end, whatever it declares.
            plausible = name.isascii() and name.decode().isprintable()
            if layout.inclusive or not plausible or position + length > size:
                position -= step
                break
        elif layout.name == "RF64" and name == b"ds64":
            long_length = struct.unpack("<8xQ", os.pread(descriptor, 16, position).ljust(16))[0]
        position += length + -length % layout.align
    if found is None:
        return 0, 0, 0
    return *found, 0 if layout.inclusive else max(size - position, 0)


def _sphere(head: bytes) -> tuple[int, int]:
    """First byte and length of the samples, 0 if compressed or not told."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", head[:1024], re.MULTILINE))
    if fields.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"alaw", b"mu-law"):
        return 0, 0
    try:
        start = int(head[8:16])
        sizes = [int(fields[key]) for key in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    except (KeyError, ValueError):
        return 0, 0
    return start, math.prod(sizes)


def _refuse_cut_ogg(path: Path, content: bytes) -> None:
    """The last page carries a flag. libsndfile plays only the first of several streams in a row."""
    last = content.rfind(b"OggS")
    page = content[last:]
    size = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 26 else 27
    if len(page) < size or not page[5] & 4:
        raise AudioFault(
            path,
            "cut off: its last Ogg page is not marked as the end of the stream "
            f"(if nothing is missing, {ANEW})",
        )
    # Streams side by side all begin before the first one's samples; one after the other, later.
    position = 0
    while content[position + 5 : position + 6] == b"\x02":
        position = content.find(b"OggS", position + 4)
    if position > 0 and content.find(b"OggS\0\2", position) > 0:
        raise AudioFault(
            path, f"several Ogg streams one after the other, only the first can be read: {ANEW}"
        )
