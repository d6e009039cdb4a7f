"""Downloads: whatever a server does, the file is there whole and verified, or it is not there."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runs import ROOT
from serflow.acquisition.answers import shown
from serflow.acquisition.download import fetch, fetch_all
from serflow.acquisition.source import Remote
from serflow.acquisition.transfer import Patience
from serflow.errors import UserError
from unreliable_server import (
    UnreliableServer,
    cut_off,
    cut_off_again,
    encoded,
    endless,
    instead,
    other_range,
    range_of_another_file,
    reset,
    stall,
    status,
    whole_file,
)

DATA = b"PK" + np.random.default_rng(0).bytes(399_998)
OTHER = b"PK" + np.random.default_rng(1).bytes(399_998)
LONG = b"PK" + np.random.default_rng(2).bytes((4 << 20) - 2)
HASTY = Patience(connect_s=2.0, stall_s=0.3, attempts=3, pause_s=0.01, longest_s=2.0)
MD5 = f"md5:{hashlib.md5(DATA).hexdigest()}"
PAGE = b"\n<!DOCTYPE html><title>Log in</title>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 400000\n"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with UnreliableServer({"/a.zip": DATA, "/b.zip": DATA}) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "downlöads of 1"


def remote(server, *paths, **changes):
    fields = {"size": len(DATA), "checksum": MD5, **changes}
    return Remote("a.zip", tuple(server.url(path) for path in paths or ["/a.zip"]), **fields)


def unpublished(server, *paths, **changes):
    return remote(
        server, *paths, size=None, checksum=None, unverified="none is published", **changes
    )


def only(folder):
    """The names in the folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file_is_fetched_and_described(server, folder):
    fetched = fetch(remote(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA
    assert only(folder) == ["a.zip"]
    assert fetched.url == server.url("/a.zip")
    assert (fetched.size, fetched.checksum) == (len(DATA), MD5)
    assert fetched.sha256 == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("broken", [cut_off, reset, stall])
@pytest.mark.parametrize("kind", [remote, unpublished])
def test_a_broken_transfer_is_resumed_and_only_the_rest_is_asked_for(server, folder, broken, kind):
    server.fail("/a.zip", broken(150_000))
    fetch(kind(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA
    assert server.asked["/a.zip"] == [None, "bytes=150000-"]
    assert server.sent["/a.zip"] == len(DATA)


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server, folder):
    server.fail("/a.zip", cut_off(150_000), status(404))
    with pytest.raises(UserError, match="404"):
        fetch(remote(server), folder, HASTY)
    fetch(remote(server), folder, HASTY)
    assert server.asked["/a.zip"][-1] == "bytes=150000-"
    assert (folder / "a.zip").read_bytes() == DATA


def test_a_process_killed_in_mid_transfer_is_gone_on_with_by_the_next(server, folder):
    server.fail("/a.zip", stall(150_000))
    script = (
        "from pathlib import Path; from serflow.acquisition.download import fetch;"
        "from serflow.acquisition.source import Remote;"
        f"fetch(Remote('a.zip', ({server.url('/a.zip')!r},), {len(DATA)}, {MD5!r}),"
        f"Path({str(folder)!r}))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")}
    child = subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.DEVNULL)
    part = folder / "a.zip.part"
    deadline = time.monotonic() + 10
    while not part.exists() or part.stat().st_size < 150_000:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    fetch(remote(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA
    assert server.asked["/a.zip"] == [None, "bytes=150000-"]
    assert only(folder) == ["a.zip"]


def test_a_server_that_ignores_range_starts_anew(server, folder):
    server.fail("/a.zip", cut_off(150_000), whole_file)
    fetch(remote(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA
    assert server.sent["/a.zip"] == 150_000 + len(DATA)


def test_a_file_replaced_between_the_halves_starts_anew(server, folder):
    server.fail("/a.zip", cut_off(150_000))
    server.fail(
        "/a.zip",
        lambda handler, body: (server.files.update({"/a.zip": OTHER}), handler.serve(OTHER)),
    )
    fetch(unpublished(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == OTHER


@pytest.mark.parametrize("kind", [remote, unpublished])
def test_halves_of_two_files_are_never_joined_by_a_server_without_if_range(server, folder, kind):
    server.fail("/a.zip", cut_off(150_000), range_of_another_file(OTHER))
    fetch(kind(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA


def test_a_range_from_another_place_starts_anew(server, folder):
    server.fail("/a.zip", cut_off(150_000), other_range)
    fetch(remote(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA


def test_a_part_longer_than_the_file_is_answered_416_and_starts_anew(server, folder):
    server.fail("/a.zip", cut_off(150_000), status(404))
    with pytest.raises(UserError):
        fetch(unpublished(server), folder, HASTY)
    server.files["/a.zip"] = DATA[:100_000]
    server.fail("/a.zip", status(416))
    fetch(unpublished(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA[:100_000]


def test_without_a_validator_or_a_checksum_nothing_is_resumed(server, folder):
    folder.mkdir()
    (folder / "a.zip.part").write_bytes(OTHER[:1000])
    fetch(unpublished(server), folder, HASTY)
    assert server.asked["/a.zip"] == [None]
    assert (folder / "a.zip").read_bytes() == DATA


def test_with_a_checksum_the_next_mirror_goes_on_with_the_part(server, folder):
    server.fail("/a.zip", cut_off(150_000), status(404))
    fetched = fetch(remote(server, "/a.zip", "/b.zip"), folder, HASTY)
    assert server.asked["/b.zip"] == ["bytes=150000-"]
    assert fetched.url == server.url("/b.zip")


def test_bytes_of_two_mirrors_that_do_not_fit_are_fetched_anew_from_one(server, folder):
    server.files["/a.zip"] = OTHER
    server.fail("/a.zip", cut_off(150_000), status(404))
    fetch(remote(server, "/a.zip", "/b.zip"), folder, HASTY)
    assert server.asked["/b.zip"] == ["bytes=150000-", None]
    assert (folder / "a.zip").read_bytes() == DATA


LIVELOCKS = {
    "416 to every range": [cut_off(2 << 20), status(416)],
    "another range": [cut_off(2 << 20), other_range],
    "no range, breaks here and there": [cut_off(2 << 20), cut_off(200_000)],
}


@pytest.mark.parametrize("faults", LIVELOCKS.values(), ids=LIVELOCKS)
def test_a_mirror_that_gets_no_farther_than_before_is_left_for_the_next(server, folder, faults):
    """Two megabytes that come again and again are no progress: it was asked for ever."""
    server.files |= {"/a.zip": LONG, "/b.zip": LONG}
    server.fail("/a.zip", *faults * 20)
    checksum = f"md5:{hashlib.md5(LONG).hexdigest()}"
    wanted = remote(server, "/a.zip", "/b.zip", size=len(LONG), checksum=checksum)
    assert fetch(wanted, folder, HASTY).url == server.url("/b.zip")
    assert len(server.asked["/a.zip"]) == HASTY.attempts


def test_a_mirror_that_breaks_often_but_gets_on_is_kept(server, folder):
    server.files["/a.zip"] = LONG
    server.fail("/a.zip", *[cut_off_again(1 << 20)] * 3)
    checksum = f"md5:{hashlib.md5(LONG).hexdigest()}"
    fetch(remote(server, size=len(LONG), checksum=checksum), folder, replace(HASTY, attempts=2))
    assert (folder / "a.zip").read_bytes() == LONG
    assert len(server.asked["/a.zip"]) == 4


def test_503_with_retry_after_is_waited_for(server, folder):
    server.fail("/a.zip", status(503, Retry_After="1"))
    start = time.monotonic()
    fetch(remote(server), folder, HASTY)
    assert time.monotonic() - start >= 1


def test_retry_after_a_date_is_waited_for_and_one_in_the_past_is_not(server, folder):
    server.fail("/a.zip", status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"))
    start = time.monotonic()
    fetch(remote(server), folder, HASTY)
    assert time.monotonic() - start < 1


ODD_HEADERS = {
    "a pause in superscript": status(503, Retry_After="\u00b2"),
    "a pause in a zone beyond all": status(
        503, Retry_After=f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}"
    ),
    "a redirect to half an address": status(302, Location="http://[::1/x"),
    "a redirect to no host": status(302, Location=f"http://{'a' * 70}.xn--/"),
}


@pytest.mark.parametrize("fault", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_a_header_that_cannot_be_read_is_the_mirrors_fault(server, folder, fault):
    """Each of them gave a traceback."""
    server.fail("/a.zip", *[fault] * 5)
    fetch(remote(server, "/a.zip", "/b.zip"), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA
    server.fail("/a.zip", fault)
    with pytest.raises(UserError, match=r"a\.zip: (an address|HTTP 503)"):
        fetch(remote(server), folder / "anew", replace(HASTY, attempts=1))


def test_a_length_that_cannot_be_read_is_none(server, folder):
    server.fail(
        "/a.zip",
        lambda handler, body: (
            handler.begin(200, {"Content-Length": "\u00b2", "Connection": "close"}),
            handler.send(body),
            handler.hang_up(),
        ),
    )
    fetch(remote(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA


def test_a_server_that_asks_for_an_hour_is_left_for_the_next_mirror(server, folder):
    server.fail("/a.zip", status(503, Retry_After="3600"))
    assert fetch(remote(server, "/a.zip", "/b.zip"), folder, HASTY).url.endswith("/b.zip")


def test_a_server_that_is_always_busy_is_left_for_the_next_mirror(server, folder):
    server.fail("/a.zip", *[status(503)] * 10)
    fetch(remote(server, "/a.zip", "/b.zip"), folder, HASTY)
    assert len(server.asked["/a.zip"]) == HASTY.attempts


def test_a_server_that_stalls_for_ever_is_left_for_the_next_mirror(server, folder):
    server.fail("/a.zip", *[stall(0)] * 3)
    assert fetch(remote(server, "/a.zip", "/b.zip"), folder, HASTY).url.endswith("/b.zip")


def test_a_mirror_that_is_down_is_passed_over(server, folder):
    down = Remote("a.zip", ("http://127.0.0.1:9/a.zip", server.url("/a.zip")), len(DATA), MD5)
    assert fetch(down, folder, HASTY).url == server.url("/a.zip")


def test_a_name_that_does_not_resolve_is_not_tried_again(server, folder, monkeypatch):
    """A laptop without internet would sit through every pause of every mirror."""
    asked, real = [], socket.getaddrinfo

    def resolve(host, *arguments, **options):
        if host != "corpus.test":
            return real(host, *arguments, **options)
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    nowhere = Remote("a.zip", ("http://corpus.test/a.zip",), len(DATA), MD5)
    with pytest.raises(UserError, match="a name unknown here: has this machine no internet"):
        fetch(nowhere, folder, HASTY)
    assert len(asked) == 1


def test_a_redirect_is_followed(server, folder):
    server.fail("/moved.zip", status(302, Location=server.url("/a.zip")))
    fetch(remote(server, "/moved.zip"), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA


def test_a_proxy_of_the_environment_is_used(server, folder, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, server.url(""))
    server.files["http://corpus.test/a.zip"] = DATA
    fetch(Remote("a.zip", ("http://corpus.test/a.zip",), len(DATA), MD5), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA


def test_an_empty_file_is_no_file_though_no_size_is_known(server, folder):
    server.files["/a.zip"] = b""
    with pytest.raises(UserError, match="is empty"):
        fetch(unpublished(server), folder, HASTY)
    assert only(folder) == []


PAGES = {
    "an error in JSON": b'{"message":"API rate limit exceeded"}',
    "an error in XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "a page after a comment": b"<!-- portal --><html><body>log in</body></html>",
    "a page without its beginning": b"<head><title>log in</title>",
    "a page after blank lines": b"\r\n" * 100 + b"<html>",
    "a gzip": gzip.compress(b"ActorID,Age"),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("name", ["a.zip", "a.tar.xz", "a.wav", "a.csv"])
def test_200_with_what_the_name_does_not_promise_is_had_from_the_next_mirror(
    server, folder, name, page
):
    """Without a checksum it was kept for ever, and the second mirror never asked."""
    good = {"zip": DATA, "xz": b"\xfd7zXZ\0...", "wav": b"RIFF....WAVE", "csv": b"ActorID,Age\n"}
    server.files |= {"/1": page, "/2": good[name.rpartition(".")[2]]}
    wanted = replace(unpublished(server, "/1", "/2"), name=name)
    assert fetch(wanted, folder, HASTY).url == server.url("/2")
    assert only(folder) == [name]
    (folder / name).write_bytes(page)
    assert fetch(wanted, folder, HASTY).url == server.url("/2"), "left by an earlier version"
    assert only(folder) == [name, f"{name}.rejected"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b'\xef\xbb\xbf"Stimulus_Number","Filename"\r\n'),
        ("a.csv", "Länge;größer <als>\n".encode("latin-1")),
        ("a.txt", b"[laughter] and {noise}"),
        ("a.json", b' \n{"files": []}'),
        ("a.html", b"<!doctype html>"),
        ("a.tar", b"any name" + bytes(1000)),
        ("LICENSE", b"words"),
    ],
)
def test_what_the_name_promises_is_taken(server, folder, name, content):
    server.files["/1"] = content
    fetch(replace(unpublished(server, "/1"), name=name), folder, HASTY)
    assert (folder / name).read_bytes() == content


def test_a_published_checksum_says_more_than_a_name(server, folder):
    data = b"{no zip}"
    server.files["/a.zip"] = data
    wanted = remote(server, size=len(data), checksum=f"md5:{hashlib.md5(data).hexdigest()}")
    fetch(wanted, folder, HASTY)
    assert (folder / "a.zip").read_bytes() == data


@pytest.mark.parametrize("kind", [remote, unpublished])
def test_a_compressed_body_is_taken_whole_or_not_at_all(server, folder, kind):
    """One that was cut short by a proxy, its length set right, counted as whole."""
    packed = gzip.compress(DATA)
    server.fail("/a.zip", encoded("gzip", packed[:200_000]), encoded("gzip", packed))
    fetch(kind(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA
    assert server.asked["/a.zip"] == [None, None], "ranges of it would count other bytes"


def test_a_compressed_body_that_always_ends_early_is_had_from_the_next_mirror(server, folder):
    server.fail("/a.zip", *[encoded("x-gzip", gzip.compress(DATA)[:-9])] * 5)
    assert fetch(unpublished(server, "/a.zip", "/b.zip"), folder, HASTY).url.endswith("/b.zip")


def test_a_gzip_that_is_called_compressed_is_not_unpacked(server, folder):
    packed = gzip.compress(DATA)
    server.fail("/a.zip", encoded("gzip", packed))
    fetch(replace(unpublished(server), name="a.tar.gz"), folder, HASTY)
    assert (folder / "a.tar.gz").read_bytes() == packed


def test_a_compression_that_was_not_asked_for_is_the_mirrors_fault(server, folder):
    server.fail("/a.zip", encoded("br", DATA))
    with pytest.raises(UserError, match="compressed by 'br', which was not asked for"):
        fetch(unpublished(server), folder, HASTY)


WRONG = {
    "login page": (instead(PAGE), "web page instead of the file: it wants a login"),
    "git-LFS pointer": (instead(POINTER), "git-LFS pointer instead of the file"),
    "other length": (instead(DATA[:-1]), "399,999 bytes by its Content-Length, 400,000 expected"),
    "other bytes": (instead(OTHER), f"wrong checksum: md5:{hashlib.md5(OTHER).hexdigest()}, {MD5}"),
    "endless": (endless, "goes on beyond the 400,000 bytes expected"),
    "not found": (status(404), "HTTP 404 Not Found"),
    "login": (status(401), "HTTP 401 Unauthorized, it wants a login"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_not_the_file_is_named_and_nothing_of_it_is_kept(server, folder, fault):
    make, message = WRONG[fault]
    server.fail("/a.zip", *[make] * 5)
    with pytest.raises(UserError) as caught:
        fetch(remote(server), folder, HASTY)
    text = str(caught.value)
    assert message in text
    for part in ("400,000 bytes", MD5, server.url("/a.zip"), f"by hand to {folder / 'a.zip'}"):
        assert part in text
    assert only(folder) == []


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_not_the_file_is_had_from_the_next_mirror(server, folder, fault):
    server.fail("/a.zip", WRONG[fault][0])
    fetch(remote(server, "/a.zip", "/b.zip"), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA


def test_an_endless_body_of_unknown_size_is_stopped(server, folder):
    server.fail("/a.zip", endless)
    with pytest.raises(UserError, match="beyond the 500,000 bytes"):
        fetch(unpublished(server, most=500_000), folder, HASTY)
    assert only(folder) == []
    assert server.sent["/a.zip"] < 20_000_000


def test_each_mirrors_fault_is_in_the_message(server, folder):
    server.fail("/a.zip", status(404))
    server.fail("/b.zip", instead(PAGE))
    with pytest.raises(UserError) as caught:
        fetch(remote(server, "/a.zip", "/b.zip"), folder, HASTY)
    assert "a.zip: HTTP 404" in str(caught.value) and "b.zip: sends a web page" in str(caught.value)


def test_passwords_and_keys_in_an_address_are_not_shown(server, folder):
    assert shown("https://me:hunter2@host:8/a/b.zip?token=key#x") == "https://host:8/a/b.zip"
    secret = server.url("/none.zip?signature=t0k3n").replace("//", "//me:hunter2@")
    with pytest.raises(UserError) as caught:
        fetch(Remote("a.zip", (secret,), len(DATA), MD5), folder, HASTY)
    assert "404" in str(caught.value)
    assert "hunter2" not in str(caught.value) and "t0k3n" not in str(caught.value)


def test_a_file_put_there_by_hand_is_verified_and_used_without_the_network(server, folder):
    folder.mkdir()
    (folder / "a.zip").write_bytes(DATA)
    assert fetch(remote(server), folder, HASTY).url == ""
    assert not server.asked


@pytest.mark.parametrize(
    ("found", "fault"),
    {
        "web page": (PAGE, "web page"),
        "half": (DATA[:9], "9 bytes"),
        "other": (OTHER, "checksum"),
    }.values(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_file_put_there_by_hand_is_set_aside_and_fetched(server, folder, found, fault):
    folder.mkdir()
    (folder / "a.zip").write_bytes(found)
    server.fail("/a.zip", status(404))
    with pytest.raises(UserError, match=f"as it lay here: .*{fault}.*moved to a.zip.rejected"):
        fetch(remote(server), folder, HASTY)
    assert (folder / "a.zip.rejected").read_bytes() == found
    fetch(remote(server), folder, HASTY)
    assert (folder / "a.zip").read_bytes() == DATA


def test_a_disk_too_small_for_the_file_is_said_before_the_download(server, folder):
    with pytest.raises(UserError, match=r"bytes are to be downloaded, .* are free"):
        fetch(remote(server, size=1 << 60), folder, HASTY)
    assert not server.asked


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a full disk")
def test_a_disk_that_fills_up_is_said(server, folder):
    folder.mkdir()
    (folder / "a.zip.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"a\.zip\.part: no space left.*goes on from there"):
        fetch(remote(server), folder, HASTY)


def many(server, count):
    names = [f"wav/{number}.wav" for number in range(count)]
    contents = [DATA[number : number + 1000] for number in range(count)]
    server.files.update({f"/{name}": body for name, body in zip(names, contents, strict=True)})
    return [
        Remote(name, (server.url(f"/{name}"),), 1000, f"sha256:{hashlib.sha256(body).hexdigest()}")
        for name, body in zip(names, contents, strict=True)
    ]


def test_many_files_come_in_order_and_only_the_missing_ones_the_second_time(server, folder):
    remotes = many(server, 60)
    assert [f.name for f in fetch_all(remotes, folder, HASTY)] == [r.name for r in remotes]
    (folder / remotes[7].name).unlink()
    server.asked.clear()
    fetch_all(remotes, folder, HASTY)
    assert list(server.asked) == ["/wav/7.wav"]


def test_one_corrupted_file_of_many_is_named_and_the_others_stay(server, folder):
    remotes = many(server, 30)
    server.files["/wav/7.wav"] = bytes(1000)
    with pytest.raises(
        UserError, match=r"1 of 30 files failed, 29 are here(.|\n)*7\.wav.*checksum"
    ):
        fetch_all(remotes, folder, HASTY)
    assert not (folder / "wav/7.wav").exists()


def test_a_mirror_that_is_down_is_not_waited_for_with_every_file(server, folder):
    remotes = [replace(r, urls=(server.url(f"/down/{r.name}"), *r.urls)) for r in many(server, 60)]
    for file in remotes:
        server.fail(f"/down/{file.name}", *[status(503)] * 3)
    fetch_all(remotes, folder, HASTY, at_once=4)
    assert sum(path.startswith("/down") for path in server.asked) <= 8


def test_a_server_that_lost_all_files_is_not_asked_for_every_one(server, folder):
    remotes = many(server, 100)
    server.files.clear()
    with pytest.raises(UserError, match="5 of 100 files failed"):
        fetch_all(remotes, folder, HASTY)
    assert len(server.asked) < 50


def test_no_thread_is_left_behind(server, folder):
    before = {thread.name for thread in threading.enumerate() if "Pool" in thread.name}
    fetch_all(many(server, 10), folder, HASTY)
    assert {thread.name for thread in threading.enumerate() if "Pool" in thread.name} == before
