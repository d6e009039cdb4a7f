"""Archives: they unpack whole, into their folder and nowhere else, or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest

from runs import ROOT
from serflow.acquisition.unpack import ArchiveFault, assembled, unpack
from serflow.errors import UserError

TREE = {"top/Wav ü/a.wav": b"a" * 1000, "top/Wav ü/b.wav": b"b" * 2000, "top/read me.txt": b"hello"}
SUFFIXES = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
NOISE = np.random.default_rng(0).bytes(100_000)


@pytest.fixture
def place(tmp_path):
    """A folder beside which nothing may appear."""
    folder = tmp_path / "inside"
    folder.mkdir()
    return folder


def archive_of(path, tree):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in tree.items():
                file.writestr(name, content)
    else:
        kind = path.name.rpartition(".tar")[2].lstrip(".")
        with tarfile.open(path, f"w:{kind}") as file:
            for name, content in tree.items():
                add(file, name, content)
    return path


def add(file, name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    file.addfile(info, io.BytesIO(content))


def unpacked(archive, folder, most=10**6, members=100, strip=False):
    with assembled(folder, strip) as partial:
        return unpack(archive, partial, most, members)


def tree_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(archive, place, message, **limits):
    """The archive is refused, by name, and leaves nothing in its folder or beside it."""
    before = {path for path in place.parent.rglob("*") if path != archive}
    with pytest.raises(ArchiveFault, match=message) as caught:
        unpacked(archive, place / "corpus", **limits)
    text = str(caught.value)
    assert text.startswith(str(archive)) and "\n" not in text
    assert {path for path in place.parent.rglob("*") if path != archive} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_gives_its_files_and_their_count(place, suffix):
    found = unpacked(archive_of(place / f"a.{suffix}", TREE), place / "corpus")
    assert tree_of(place / "corpus") == TREE
    assert (found.files, found.size, found.left_out) == (3, 3005, 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_single_folder_at_the_top_can_be_left_out(place, suffix):
    unpacked(archive_of(place / f"a.{suffix}", TREE), place / "corpus", strip=True)
    assert tree_of(place / "corpus") == {k.removeprefix("top/"): v for k, v in TREE.items()}
    assert sorted(path.name for path in place.iterdir()) == [f"a.{suffix}", "corpus"]


def test_what_macos_adds_is_left_out_and_counted(place):
    clutter = {"__MACOSX/top/._a.wav": b"x", "top/._a.wav": b"x", "top/.DS_Store": b"x"}
    found = unpacked(archive_of(place / "a.zip", TREE | clutter), place / "corpus")
    assert tree_of(place / "corpus") == TREE and found.left_out == 3


def test_modes_and_owners_of_an_archive_are_not_taken_over(place):
    with tarfile.open(place / "a.tar", "w") as file:
        add(file, "closed", type=tarfile.DIRTYPE, mode=0)
        add(file, "closed/setuid", b"x", mode=0o6777, uid=12345)
        add(file, "closed/unreadable", b"x", mode=0)
    unpacked(place / "a.tar", place / "corpus")
    (place / "new").touch()
    usual = stat.S_IMODE((place / "new").stat().st_mode)
    for name in ("setuid", "unreadable"):
        found = (place / "corpus/closed" / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (usual, os.getuid())


ESCAPES = {
    "../evil": "leads out of the folder",
    "a/../../evil": "leads out of the folder",
    "/evil": "absolute",
    "C:/evil": "absolute",
    "C:evil": "absolute",
    "..\\evil": "backslash",
    "a\\evil": "backslash",
    "line\nbreak": "control character",
}


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leaves_the_folder_is_refused(place, name, suffix):
    archive = archive_of(place / f"a.{suffix}", {"good.wav": b"x", name: b"x"})
    refused(archive, place, ESCAPES[name])


LINKS = {
    "symbolic link out": [("a", tarfile.SYMTYPE, "../../evil")],
    "symbolic link to the root": [("a", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link out": [("a", tarfile.LNKTYPE, "../evil")],
    "hard link to the root": [("a", tarfile.LNKTYPE, "/etc/passwd")],
    "link to nothing": [("a", tarfile.SYMTYPE, "b")],
    "link to a folder": [("d", tarfile.DIRTYPE, ""), ("a", tarfile.SYMTYPE, "d")],
    "write through a link": [("a", tarfile.SYMTYPE, ".."), ("a/evil", tarfile.REGTYPE, "")],
    "link to itself": [("a", tarfile.SYMTYPE, "a")],
}


@pytest.mark.parametrize("case", LINKS)
def test_a_link_that_is_not_to_a_file_of_the_archive_is_refused(place, case):
    with tarfile.open(place / "a.tar", "w") as file:
        for name, kind, target in LINKS[case]:
            add(file, name, type=kind, linkname=target)
    refused(place / "a.tar", place, "'a' is a link to")


def test_a_link_to_a_file_of_the_archive_becomes_that_file(place):
    with tarfile.open(place / "a.tar", "w") as file:
        add(file, "d/a.wav", b"speech")
        add(file, "d/b.wav", type=tarfile.SYMTYPE, linkname="a.wav")
        add(file, "c.wav", type=tarfile.LNKTYPE, linkname="d/a.wav")
    unpacked(place / "a.tar", place / "corpus")
    assert set(tree_of(place / "corpus").values()) == {b"speech"}
    assert not any(path.is_symlink() for path in (place / "corpus").rglob("*"))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_or_a_pipe_is_refused(place, kind):
    with tarfile.open(place / "a.tar", "w") as file:
        add(file, "dev", type=kind)
    refused(place / "a.tar", place, "'dev' is a device or a pipe")


def test_a_link_in_a_zip_is_refused(place):
    with zipfile.ZipFile(place / "a.zip", "w") as file:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    refused(place / "a.zip", place, "'link' is a link or a device")


def test_an_encrypted_member_is_refused(place):
    archive = archive_of(place / "a.zip", {"secret.wav": b"x"})
    data = bytearray(archive.read_bytes())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(sign) + offset] |= 1
    archive.write_bytes(data)
    refused(archive, place, "'secret.wav' is encrypted")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("suffix", ["zip", "tar"])
@pytest.mark.parametrize("second", ["a.wav", "./a.wav", "a.wav/"])
def test_a_name_given_twice_is_refused(place, suffix, second):
    if suffix == "zip":
        with zipfile.ZipFile(place / "a.zip", "w") as file:
            file.writestr("a.wav", b"1")
            file.writestr(second, b"")
    else:
        with tarfile.open(place / "a.tar", "w") as file:
            add(file, "a.wav", b"1")
            add(file, second, b"2")
    refused(
        place / f"a.{suffix}", place, "a.wav.* is there twice|'a.wav' cannot be made: File exists"
    )


CLASHES = {
    "a file below a file": {"a": b"1", "a/b.wav": b"2"},
    "a file in a folder's place": {"a/b.wav": b"2", "a": b"1"},
    "a long name": {"x" * 256 + ".wav": b"1"},
    "a long name of a folder": {"x" * 256 + "/a.wav": b"1"},
}


@pytest.mark.parametrize("suffix", ["zip", "tar"])
@pytest.mark.parametrize("tree", CLASHES.values(), ids=CLASHES)
def test_names_that_no_disk_can_hold_are_the_archives_fault(place, suffix, tree):
    """As a fault of the disk they kept a wrong archive from being replaced."""
    refused(archive_of(place / f"a.{suffix}", tree), place, "cannot be made|is there twice")


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_stopped_at_what_was_expected(place, suffix):
    archive = archive_of(place / f"a.{suffix}", {"a": b"x", "bomb": bytes(20_000_000)})
    assert archive.stat().st_size < 100_000
    refused(archive, place, "unpacks to more than the 5,000,000 bytes.*'bomb'", most=5_000_000)


def test_a_bomb_that_lies_about_its_size_is_stopped_or_found_corrupt(place):
    archive = archive_of(place / "a.zip", {"bomb": bytes(20_000_000)})
    data = archive.read_bytes()
    archive.write_bytes(
        data.replace((20_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    )
    refused(archive, place, "truncated or corrupt at 'bomb'", most=5_000_000)


def test_an_archive_of_too_many_members_is_refused(place):
    archive = archive_of(place / "a.zip", {str(n): b"" for n in range(50)})
    refused(archive, place, "more than the 49 members", members=49)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_archive_gives_one_line(place, suffix, share):
    archive = archive_of(place / f"a.{suffix}", {f"{n}.wav": NOISE[n:] for n in range(3)})
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    refused(archive, place, "truncated or corrupt")


BLOCK = tarfile.BLOCKSIZE
# Members of a header and a block each: 0 a, 2 b, 4 the end.
HALVES = {
    "cut off between two members": lambda tar: tar[: 2 * BLOCK],
    "cut off in a header": lambda tar: tar[: 2 * BLOCK + 100],
    "one zero block at its end": lambda tar: tar[: 5 * BLOCK],
    "zeros over a header": lambda tar: tar[: 2 * BLOCK] + bytes(BLOCK) + tar[3 * BLOCK :],
    "zeros over a member": lambda tar: tar[: 2 * BLOCK] + bytes(2 * BLOCK) + tar[2 * BLOCK :],
    "noise over a header": lambda tar: tar[: 2 * BLOCK] + NOISE[:BLOCK] + tar[3 * BLOCK :],
    "more behind its end": lambda tar: tar + b"more",
}
PACKED = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("half", HALVES)
def test_a_tar_that_ends_early_is_not_taken_for_a_whole_one(place, suffix, half):
    """Python's tarfile stops at the first block that is no header, and says nothing."""
    archive = archive_of(place / "a.tar", {"a": bytes(range(256)) * 2, "b": bytes(range(256)) * 2})
    whole = archive.read_bytes()
    archive.unlink()
    archive = place / f"a.{suffix}"
    archive.write_bytes(PACKED[suffix](whole))
    unpacked(archive, place / "good")
    archive.write_bytes(PACKED[suffix](HALVES[half](whole)))
    refused(archive, place, "truncated or corrupt")


def test_what_follows_the_gzip_of_a_tar_is_refused(place):
    archive = archive_of(place / "a.tar.gz", TREE)
    archive.write_bytes(archive.read_bytes() + b"more")
    refused(archive, place, "truncated or corrupt")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_corrupt_archive_gives_one_line_or_what_it_held(place, suffix):
    # Plain tar has no checksums over contents; the download's checksum is what counts.
    whole = archive_of(
        place / f"a.{suffix}", {f"{n}.wav": NOISE[n:] for n in range(3)}
    ).read_bytes()
    for seed in range(8):
        data = bytearray(whole)
        for _ in range(5):
            data[random.Random(seed).randrange(len(data))] ^= 0xFF
        (place / f"a.{suffix}").write_bytes(data)
        try:
            unpacked(place / f"a.{suffix}", place / "corpus")
        except UserError as error:
            assert "\n" not in str(error)
        shutil.rmtree(place / "corpus", ignore_errors=True)


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_an_archive_that_is_none_gives_one_line(place, suffix):
    (place / f"a.{suffix}").write_bytes(b"<html>not an archive</html>" * 100)
    refused(place / f"a.{suffix}", place, "truncated or corrupt")


def test_an_earlier_folder_is_replaced_and_survives_a_failure(place):
    unpacked(archive_of(place / "a.zip", {"old": b"1"}), place / "corpus")
    with pytest.raises(ArchiveFault):
        unpacked(archive_of(place / "b.zip", {"new": b"2", "../evil": b""}), place / "corpus")
    assert tree_of(place / "corpus") == {"old": b"1"}
    unpacked(archive_of(place / "b.zip", {"new": b"2"}), place / "corpus")
    assert tree_of(place / "corpus") == {"new": b"2"}
    assert sorted(path.name for path in place.iterdir()) == ["a.zip", "b.zip", "corpus"]


def test_killed_at_any_moment_a_rerun_gives_the_same_tree(place):
    tree = {f"{n % 10}/{n}.wav": NOISE[n : n + 20_000] for n in range(1500)}
    archive = archive_of(place / "a.tar", tree)
    script = (
        "from pathlib import Path; from serflow.acquisition.unpack import assembled, unpack\n"
        f"with assembled(Path({str(place / 'corpus')!r})) as partial:\n"
        "    print('begin', flush=True)\n"
        f"    unpack(Path({str(archive)!r}), partial, 10**9, 10**6)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")}
    for delay in (0.0, 0.05, 0.15):
        child = subprocess.Popen(
            [sys.executable, "-c", script],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert not (place / "corpus").exists() or tree_of(place / "corpus") == tree
    unpacked(archive, place / "corpus", most=10**9, members=10**6)
    assert tree_of(place / "corpus") == tree
    assert sorted(path.name for path in place.iterdir()) == ["a.tar", "corpus"]


def test_leftovers_of_another_folder_are_let_be(place):
    other = place / ".corpus.b.123.partial"
    other.mkdir()
    unpacked(archive_of(place / "a.zip", TREE), place / "corpus")
    assert other.exists()
