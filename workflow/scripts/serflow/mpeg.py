"""The length of an MPEG audio stream (MP3), which only its frames tell."""

from __future__ import annotations

import mmap
import struct
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import soundfile

from serflow.containers import ANEW, AudioFault

# MPEG audio: kbit/s of a header's bit-rate index from 1, by whether it is MPEG-1, and layer.
MPEG = ("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")
_LOW_KBIT = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBIT = {
    (True, 1): range(32, 449, 32),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): _LOW_KBIT,
    (False, 3): _LOW_KBIT,
}


class _MpegFrame(NamedTuple):
    """Bytes and samples of one frame, and what is the same in all frames of a stream."""

    length: int
    samples: int
    kind: tuple[int, int, bool]  # version and layer, rate, mono


@lru_cache(maxsize=4096)
def _mpeg_header(header: bytes) -> _MpegFrame | None:
    """What a frame's four bytes say; None if they are no frame's (ISO 11172-3, 2.4.1.3)."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index == 3 or index in (0, 15):
        return None
    first_version = version == 3
    rate = (44_100, 48_000, 32_000)[rate_index] // (1 if first_version else 4 - version)
    bits = 1000 * _KBIT[first_version, layer][index - 1]
    kind = (header[1] & 0x1E, rate_index, header[3] >> 6 == 3)
    if layer == 1:
        return _MpegFrame(4 * (12 * bits // rate + padding), 384, kind)
    samples = 1152 if layer == 2 or first_version else 576
    return _MpegFrame(samples // 8 * bits // rate + padding, samples, kind)


def mpeg_length(
    path: Path, content: bytes, file: soundfile.SoundFile
) -> tuple[int, int, soundfile.SoundFile]:
    """Samples to read and samples held by an MPEG stream, and what to read them from.

    Without the tag of Xing or LAME, which no encoder can write to a pipe, libsndfile guesses the
    length from the size of the stream and that of its first frame, and reads no further. So the
    frames are counted. Where the guess is short, a copy with zeros after its end makes it long
    enough; the zeros are never read.
    """
    stream = _walk(path, content)
    tagged, promised = _xing(content[stream.first : stream.first + 64].ljust(64))
    count = stream.count - tagged
    if promised:
        # Some encoders count the tag's own frame.
        if promised > count + (not stream.torn):
            rate = file.samplerate / stream.samples
            raise AudioFault(
                path,
                f"cut off: its header promises {promised / rate:.2f} s, "
                f"the file holds {count / rate:.2f} s",
            )
        return file.frames, file.frames + (count - promised) * stream.samples, file
    if stream.torn:
        raise AudioFault(path, f"cut off: the last {stream.torn} bytes are part of an MPEG frame")
    frames = count * stream.samples
    if file.frames >= frames:
        return frames, frames, file
    copy = mmap.mmap(-1, len(content) + stream.count * stream.largest)
    copy[: len(content)] = content
    longer = soundfile.SoundFile(copy)
    if longer.frames < frames:
        raise AudioFault(path, f"its length cannot be told: {ANEW}")
    return frames, frames, longer


class _MpegStream(NamedTuple):
    """Frames of one kind: where the first one is, how many, samples of each, bytes of the largest.

    `torn` bytes of one more are at the end.
    """

    first: int
    count: int
    samples: int
    largest: int
    torn: int


# Segments of one long recording come one after the other.
@lru_cache(maxsize=1)
def _walk(path: Path, content: bytes) -> _MpegStream:
    """Count the frames, over tags and rubble between them."""
    at = count = first = samples = largest = torn = 0
    kind = None
    in_step = False
    while at >= 0:
        frame = _mpeg_header(content[at : at + 4])
        if frame is not None and not in_step:
            # After a tag or rubble, only two in a row are frames, or one that ends the file.
            end = at + frame.length
            after = _mpeg_header(content[end : end + 4])
            followed = end == len(content) or (after is not None and after.kind == frame.kind)
            if not followed or kind not in (None, frame.kind):
                frame = None
        if frame is None:
            if in_step and content[at : at + 1] == b"\xff" and at + 4 > len(content):
                torn = len(content) - at
            if content[at : at + 3] == b"ID3":
                # Its size is four bytes of seven bits.
                size = enumerate(content[at + 6 : at + 10])
                at += 9 + sum(byte << 7 * (3 - place) for place, byte in size)
            in_step = False
            at = content.find(b"\xff", at + 1)
            continue
        if kind is None:
            first, kind, samples = at, frame.kind, frame.samples
        elif frame.kind != kind:
            raise AudioFault(path, f"changes its rate or channels on the way: {ANEW}")
        if at + frame.length > len(content):
            torn = len(content) - at
            break
        in_step = True
        count, largest, at = count + 1, max(largest, frame.length), at + frame.length
    if not count:
        raise AudioFault(path, f"holds no MPEG frames that can be counted: {ANEW}")
    return _MpegStream(first, count, samples, largest, torn)


def _xing(frame: bytes) -> tuple[bool, int]:
    """Whether a stream's first frame is the tag of Xing or LAME, and how many frames it promises."""
    mono, first_version = frame[3] >> 6 == 3, frame[1] & 8
    at = 4 + ((17 if mono else 32) if first_version else (9 if mono else 17))
    if frame[at : at + 4] not in (b"Xing", b"Info"):
        return False, 0
    flags, promised = struct.unpack_from(">II", frame, at + 4)
    return True, promised if flags & 1 else 0
