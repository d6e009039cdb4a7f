"""Zip and tar archives into a folder, whole or not at all, and nowhere else.

A corpus is audio files, tables and folders. So a link is never made: one to a file of the archive
becomes a second name of that file, every other one is refused. With no link on disk no later member
can be written through one.
"""

from __future__ import annotations

import errno
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm import tqdm

from serflow.acquisition.contents import Unfit
from serflow.errors import UserError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_CLUTTER = ("__MACOSX", ".DS_Store")
_BLOCK = 1 << 20
# What the readers of damaged archives raise.
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
    struct.error,
)
# In a folder that was empty these come from the archive: `a` beside `a/b`, or too long a name.
_NAMES_CLASH = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


class ArchiveFault(Unfit):
    """An archive that is damaged, or that holds what is not unpacked."""


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Attributes
    ----------
    files, size : int
        Number of files, and their bytes.
    left_out : int
        Members that macOS adds (`__MACOSX`, `._*`).
    """

    files: int
    size: int
    left_out: int


@dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # "file", "folder", "link"
    open: Callable[[], IO[bytes]]
    target: str = ""


def safe_path(name: str) -> PurePosixPath:
    """A member's name as a path that stays below the folder it is joined to.

    Raises
    ------
    ArchiveFault
        It is absolute, goes up, or means something else on another system.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise ArchiveFault(f"the name {name!r} is absolute")
    if ".." in parts:
        raise ArchiveFault(f"the name {name!r} leads out of the folder")
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        raise ArchiveFault(f"the name {name!r} has a backslash or a control character")
    return PurePosixPath(*parts)


@contextmanager
def assembled(folder: Path, strip: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, and rename it to `folder` on success.

    Parameters
    ----------
    folder : Path
        Replaced if it is there.
    strip : bool
        If all lies in a single folder, leave that folder out.
    """
    with scratch(folder) as partial:
        yield partial
        inner = partial
        entries = list(partial.iterdir())
        if strip and len(entries) == 1 and entries[0].is_dir():
            inner = entries[0]
        if folder.exists():
            folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}.old.partial"))
        inner.rename(folder)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, and remove it.

    Leftovers of runs that were killed are removed as well: the caller sees to it that no other run
    is at work on this folder.
    """
    _remove_leftovers(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        _remove_leftovers(folder)


def _remove_leftovers(folder: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.\d+(\.old)?\.partial")
    for path in folder.parent.glob(".*.partial"):
        if pattern.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def unpack(archive: Path, folder: Path, most: int, members: int) -> Unpacked:
    """Unpack an archive into `folder`, which should be one of `assembled` or `scratch`.

    Files get the modes of new files. Times, owners and permissions are not taken over.

    Parameters
    ----------
    archive : Path
        Its name tells the format.
    folder : Path
    most : int
        Bytes that it may unpack to, counted while they are written.
    members : int
        Files and folders that it may hold.

    Raises
    ------
    ArchiveFault
        It is damaged, unpacks to more than it may, or has a member that is encrypted, a device, a
        link out of it, or named twice, below another file, at too great length, or to leave the
        folder. Part of it may lie in `folder`.
    UserError
        The disk is full.
    """
    opened = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    try:
        with tqdm(desc=archive.name, unit="B", unit_scale=True, mininterval=1.0) as bar:
            return _unpack(_unbroken(opened(archive)), folder, most, members, bar)
    except ArchiveFault as fault:
        raise ArchiveFault(f"{archive}: {fault}") from None
    except OSError as error:
        if error.errno in _NAMES_CLASH:
            name = os.path.relpath(error.filename or folder, folder)
            raise ArchiveFault(f"{archive}: {name!r} cannot be made: {error.strerror}") from None
        raise UserError(
            f"{archive}: cannot be unpacked: {error.filename or folder}: {error.strerror}"
        ) from None


def _unpack(found: Iterator[_Member], folder: Path, most: int, members: int, bar: tqdm) -> Unpacked:
    size = left_out = 0
    files: set[PurePosixPath] = set()
    for number, member in enumerate(found, start=1):
        if number > members:
            raise ArchiveFault(f"holds more than the {members:,} members expected")
        path = safe_path(member.name)
        if any(part in _CLUTTER or part.startswith("._") for part in path.parts):
            left_out += 1
            continue
        if member.kind == "folder":
            (folder / path).mkdir(parents=True, exist_ok=True)
            continue
        if not path.parts or (folder / path).exists():
            raise ArchiveFault(f"{member.name!r} is there twice, or has no name")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "link":
            os.link(folder / _linked(member, files), folder / path)
        else:
            with (folder / path).open("xb") as file:
                for block in _unbroken(_blocks(member), member.name):
                    size += len(block)
                    if size > most:
                        raise ArchiveFault(
                            f"unpacks to more than the {most:,} bytes expected, at {member.name!r}"
                        )
                    file.write(block)
                    bar.update(len(block))
        files.add(path)
    return Unpacked(len(files), size, left_out)


def _linked(member: _Member, files: set[PurePosixPath]) -> PurePosixPath:
    try:
        target = safe_path(os.path.normpath(member.target))
    except ArchiveFault:
        target = None
    if target not in files:
        raise ArchiveFault(
            f"{member.name!r} is a link to {member.target!r}, which is no file before it"
        )
    return target


def _unbroken(parts: Iterator[Any], where: str = "") -> Iterator[Any]:
    """Give a damaged archive one line, whatever its reader calls the damage."""
    while True:
        try:
            part = next(parts)
        except StopIteration:
            return
        except BROKEN as error:
            at = f" at {where!r}" if where else ""
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
            raise ArchiveFault(f"truncated or corrupt{at} ({reason})") from None
        yield part


def _blocks(member: _Member) -> Iterator[bytes]:
    with member.open() as source:
        while block := source.read(_BLOCK):
            yield block


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if info.flag_bits & 0x1:
                raise ArchiveFault(f"{info.filename!r} is encrypted")
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveFault(f"{info.filename!r} is a link or a device")
            kind = "folder" if info.is_dir() else "file"
            yield _Member(info.filename, kind, lambda info=info: file.open(info))


class _Header(tarfile.TarInfo):
    """Refuses what `tarfile` takes for the archive's end: a header cut off, damaged or missing."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, tarinfo=_Header) as file:
        for info in file:
            target = ""
            if info.isdir():
                kind = "folder"
            elif info.isreg():
                kind = "file"
            elif info.issym() or info.islnk():
                kind, target = "link", info.linkname
                if info.issym() and not target.startswith("/"):
                    target = f"{PurePosixPath(info.name).parent}/{target}"
            else:
                raise ArchiveFault(f"{info.name!r} is a device or a pipe")
            yield _Member(info.name, kind, lambda info=info: file.extractfile(info), target)
        # The first of the two zero blocks that end a tar was read. One cut off between two members,
        # or with zeros over one of them, looks like a whole one otherwise.
        if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("its end is missing")
        while block := file.fileobj.read(_BLOCK):
            if block.strip(b"\0"):
                raise EOFError("there is more behind its end")
