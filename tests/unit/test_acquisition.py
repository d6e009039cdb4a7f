"""Acquisition: every kind of source ends as one verified folder and its record."""

from __future__ import annotations

import errno
import hashlib
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from runs import ROOT
from serflow.acquisition.acquire import acquire
from serflow.acquisition.contents import Unfit
from serflow.acquisition.repositories import files_behind
from serflow.acquisition.source import LfsTree, Record, Remote, Source
from serflow.acquisition.sources import SOURCES, is_open, needs_a_licence
from serflow.acquisition.transfer import Patience
from serflow.digests import canonical
from serflow.errors import UserError
from unreliable_server import UnreliableServer, cut_off, instead, stall, status

HASTY = Patience(connect_s=2.0, stall_s=0.3, attempts=3, pause_s=0.01, longest_s=2.0)
WAVS = {f"100{n}_DFA_ANG_XX.wav": np.random.default_rng(n).bytes(3000 + n) for n in range(6)}


def zip_of(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def md5(data):
    return hashlib.md5(data).hexdigest()


def pointer_to(data):
    oid = hashlib.sha256(data).hexdigest()
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()
    )


def tree_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with UnreliableServer() as server:
        yield server


def source(**parts):
    fields = {"title": "A corpus", "home": "http://corpus.test", "terms": "free", "size": 1}
    return Source("toy", **fields, holds="wav/", unpacked=10**6, **parts)


def archives(server, strip=False):
    """Two archives at the server, one with a published checksum."""
    one, two = zip_of({"top/wav/a.wav": b"a"}), zip_of({"top/wav/b.wav": b"b" * 9})
    server.files.update({"/one.zip": one, "/two.zip": two})
    return source(
        archives=(
            Remote("one.zip", (server.url("/one.zip"),), len(one), f"md5:{md5(one)}"),
            Remote("two.zip", (server.url("/two.zip"),), unverified="nobody publishes one"),
        ),
        strip=strip,
    )


def lfs(server, wavs=WAVS):
    pointers = {f"repo-main/AudioWAV/{name}": pointer_to(data) for name, data in wavs.items()}
    pointers |= {"repo-main/AudioMP3/a.mp3": b"", "repo-main/README.md": b"words"}
    server.files["/pointers.zip"] = zip_of(pointers)
    server.files |= {f"/media/AudioWAV/{name}": data for name, data in wavs.items()}
    server.files["/raw/processedResults/votes.csv"] = b"a,b\n1,2\n"
    return source(
        files=(
            Remote(
                "processedResults/votes.csv",
                (server.url("/raw/processedResults/votes.csv"),),
                unverified="a plain file",
            ),
        ),
        trees=(
            LfsTree(
                Remote("pointers.zip", (server.url("/pointers.zip"),), unverified="made on demand"),
                "AudioWAV",
                ".wav",
                len(wavs),
                (server.url("/media/"),),
            ),
        ),
    )


def zenodo(server):
    data = zip_of({"a.wav": b"a"})
    link = {"self": server.url("/api/records/1/files/audio.zip/content")}
    server.files["/api/records/1/files/audio.zip/content"] = data
    files = [
        {"key": "audio.zip", "size": len(data), "checksum": f"md5:{md5(data)}", "links": link},
        {"key": "video.mp4", "size": 9, "checksum": f"md5:{md5(b'')}", "links": link},
    ]
    server.files["/api/records/1"] = json.dumps({"id": 1, "files": files}).encode()
    listing = Remote("record.json", (server.url("/api/records/1"),), unverified="the listing")
    return source(records=(Record("zenodo", listing),))


def dataverse(server, **changes):
    files = []
    for number, (name, data) in enumerate(WAVS.items()):
        server.files[f"/api/access/datafile/{number}"] = data
        described = {"id": number, "filesize": len(data), "md5": md5(data)}
        described["checksum"] = {"type": "MD5", "value": md5(data)}
        files.append(
            {"label": name, "directoryLabel": "OAF angry", "dataFile": described, **changes}
        )
    files.append({"label": "notes.txt", "dataFile": {"id": 99, "filesize": 1, "md5": md5(b"x")}})
    answer = {"status": "OK", "data": {"latestVersion": {"files": files}}}
    server.files["/api/datasets/:persistentId/"] = json.dumps(answer).encode()
    url = server.url("/api/datasets/:persistentId/?persistentId=doi:10.1/X")
    return source(
        records=(Record("dataverse", Remote("x.json", (url,), unverified="the listing")),)
    )


def test_archives_are_unpacked_into_one_folder_and_kept(server, tmp_path):
    record = acquire("toy", archives(server), tmp_path / "d", tmp_path / "r/folder", HASTY)
    assert tree_of(tmp_path / "r/folder") == {"top/wav/a.wav": b"a", "top/wav/b.wav": b"b" * 9}
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["folder"]
    assert {p.name for p in (tmp_path / "d/toy").iterdir()} == {".lock", "one.zip", "two.zip"}
    assert record["folder"] == {"files": 2, "size": 10, "left_out": 0}
    one, two = record["fetched"]
    assert one["checksum"] == f"md5:{md5(server.files['/one.zip'])}" and not one["unverified"]
    assert two["checksum"] is None and two["unverified"] == "nobody publishes one"
    assert two["sha256"] == hashlib.sha256(server.files["/two.zip"]).hexdigest()
    assert one["url"] == server.url("/one.zip")
    json.dumps(record)


def test_a_second_run_needs_no_network_and_gives_the_same(server, tmp_path):
    toy = archives(server, strip=True)
    acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    server.asked.clear()
    record = acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert not server.asked and {file["url"] for file in record["fetched"]} == {""}
    assert tree_of(tmp_path / "folder") == {"wav/a.wav": b"a", "wav/b.wav": b"b" * 9}


def test_nothing_is_unpacked_before_all_is_verified(server, tmp_path):
    toy = archives(server)
    server.fail("/two.zip", *[instead(b"<html>log in</html>")] * 3)
    with pytest.raises(UserError, match="web page") as caught:
        acquire("mine", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert not (tmp_path / "folder").exists()
    assert "corpus 'mine': cannot get two.zip" in str(caught.value)
    assert str(tmp_path / "d/toy/two.zip") in str(caught.value)
    assert "set `paths: {mine: ...}` in config.yaml" in str(caught.value)


def test_a_damaged_archive_without_a_checksum_is_fetched_anew_by_the_next_run(server, tmp_path):
    toy = archives(server)
    server.fail("/two.zip", instead(server.files["/two.zip"][:-30]))
    with pytest.raises(UserError, match=r"truncated or corrupt.*moved to two\.zip\.rejected"):
        acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert not (tmp_path / "folder").exists()
    acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert len(tree_of(tmp_path / "folder")) == 2


UNFIT = {
    "cut short": zip_of({"top/wav/b.wav": b"b" * 9})[:-30],
    "a file below a file": zip_of({"a": b"1", "a/b.wav": b"2"}),
    "a name too long for a disk": zip_of({"x" * 300: b"1"}),
    "another archive's bomb": zip_of({"top/wav/b.wav": bytes(2 * 10**6)}),
}


@pytest.mark.parametrize("bad", UNFIT.values(), ids=UNFIT)
def test_an_unverified_archive_that_does_not_unpack_is_had_from_the_next_mirror(
    server, tmp_path, bad
):
    """Set aside after the download was over, it came from the first mirror again and again."""
    toy = archives(server)
    server.files["/bad.zip"] = bad
    two = replace(toy.archives[1], urls=(server.url("/bad.zip"), server.url("/two.zip")))
    toy = replace(toy, archives=(toy.archives[0], two))
    record = acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert tree_of(tmp_path / "folder") == {"top/wav/a.wav": b"a", "top/wav/b.wav": b"b" * 9}
    assert record["fetched"][1]["url"] == server.url("/two.zip")
    assert (tmp_path / "d/toy/two.zip.rejected").read_bytes() == bad
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "folder"]


@pytest.mark.parametrize("bad", UNFIT.values(), ids=UNFIT)
def test_an_unverified_archive_that_lies_here_and_does_not_unpack_is_set_aside(
    server, tmp_path, bad
):
    """A clash of names was no fault of the archive: every run failed alike."""
    (tmp_path / "d/toy").mkdir(parents=True)
    (tmp_path / "d/toy/two.zip").write_bytes(bad)
    acquire("toy", archives(server), tmp_path / "d", tmp_path / "folder", HASTY)
    assert (tmp_path / "d/toy/two.zip.rejected").read_bytes() == bad
    assert len(tree_of(tmp_path / "folder")) == 2


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("name", ["top/wav/a.wav", "top/wav", "top/wav/a.wav/b.csv"])
def test_a_single_file_never_replaces_what_was_unpacked(
    server, tmp_path, monkeypatch, name, linked
):
    def no_links(path, target):
        raise OSError(errno.EPERM, "no links on this disk")

    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    server.files["/table"] = b"RIFF"
    table = Remote(name, (server.url("/table"),), unverified="a plain file")
    toy = replace(archives(server), files=(table,))
    with pytest.raises(UserError, match=rf"{name}: its place is taken by .* one\.zip, two\.zip"):
        acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert not (tmp_path / "folder").exists()


def test_a_verified_archive_that_unpacks_to_too_much_is_kept(server, tmp_path):
    toy = replace(archives(server), unpacked=0)
    with pytest.raises(UserError, match="more than the 0 bytes"):
        acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert (tmp_path / "d/toy/one.zip").exists() and not (tmp_path / "folder").exists()


@pytest.mark.parametrize("make", [lfs, zenodo, dataverse, archives])
def test_an_interrupted_source_is_gone_on_with(server, tmp_path, make):
    toy = make(server)
    for path in server.files:
        server.fail(path, cut_off(5), status(503))
    acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert len(tree_of(tmp_path / "folder")) == {lfs: 7, zenodo: 1, dataverse: 6, archives: 2}[make]


def test_files_behind_lfs_pointers_are_verified_against_them(server, tmp_path):
    record = acquire("toy", lfs(server), tmp_path / "d", tmp_path / "folder", HASTY)
    expected = {f"AudioWAV/{name}": data for name, data in WAVS.items()}
    assert tree_of(tmp_path / "folder") == expected | {"processedResults/votes.csv": b"a,b\n1,2\n"}
    assert record["folder"]["files"] == 7
    checksums = {file["name"]: file["checksum"] for file in record["fetched"]}
    for name, data in WAVS.items():
        assert checksums[f"AudioWAV/{name}"] == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_one_corrupted_lfs_file_is_named_and_only_it_is_fetched_again(server, tmp_path):
    toy = lfs(server)
    name = "1003_DFA_ANG_XX.wav"
    server.fail(f"/media/AudioWAV/{name}", instead(bytes(len(WAVS[name]))))
    with pytest.raises(UserError, match=rf"1 of 6 files failed(.|\n)*{name}(.|\n)*wrong checksum"):
        acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert not (tmp_path / "folder").exists()
    server.asked.clear()
    acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
    assert list(server.asked) == [f"/media/AudioWAV/{name}"]


def test_an_lfs_server_out_of_budget_that_sends_pointers_is_said(server, tmp_path):
    toy = lfs(server)
    for name, data in WAVS.items():
        server.files[f"/media/AudioWAV/{name}"] = pointer_to(data)
    with pytest.raises(UserError, match="sends a git-LFS pointer instead of the file"):
        acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)


@pytest.mark.parametrize("fault", ["one missing", "audio instead", "no zip"])
def test_pointers_that_are_not_what_they_should_be_are_refused(server, tmp_path, fault):
    toy = lfs(server)
    name = next(iter(WAVS))
    inside = {f"AudioWAV/{n}": pointer_to(d) for n, d in WAVS.items()}
    if fault == "one missing":
        del inside[f"AudioWAV/{name}"]
    inside[f"AudioWAV/{name}"] = WAVS[name] if fault == "audio instead" else inside.get("x", b"")
    server.files["/pointers.zip"] = b"PK nothing" if fault == "no zip" else zip_of(inside)
    expected = "not a zip of pointers" if fault == "no zip" else "5 git-LFS pointers.*6 expected"
    with pytest.raises(UserError, match=expected):
        acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)


def flipped(data, position):
    changed = bytearray(data)
    changed[position] ^= 0xFF
    return bytes(changed)


def damaged_pointers(kind):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in WAVS.items():
            archive.writestr(f"AudioWAV/{name}", pointer_to(data))
    whole = buffer.getvalue()
    if kind == "bad stream":
        return flipped(whole, whole.index(b"AudioWAV") + len(f"AudioWAV/{next(iter(WAVS))}"))
    # The offset of the list of members, in the last record: a seek to before the file's beginning.
    end = whole.rindex(b"PK\5\6")
    return whole[: end + 12] + (1 << 31).to_bytes(4, "little") + whole[end + 16 :]


@pytest.mark.parametrize("kind", ["bad stream", "bad place"])
def test_a_damaged_zip_of_pointers_is_set_aside_and_had_from_the_next_mirror(
    server, tmp_path, kind
):
    """It gave a traceback, and stayed where it was."""
    toy = lfs(server)
    server.files["/bad.zip"] = damaged_pointers(kind)
    tree = toy.trees[0]
    for urls in (("/bad.zip",), ("/bad.zip", "/pointers.zip")):
        pointers = replace(tree.pointers, urls=tuple(map(server.url, urls)))
        toy = replace(toy, trees=(replace(tree, pointers=pointers),))
        if len(urls) == 1:
            with pytest.raises(
                UserError, match=r"not a zip of pointers.*moved to pointers\.zip\.rej"
            ):
                acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
        else:
            acquire("toy", toy, tmp_path / "d", tmp_path / "folder", HASTY)
        assert (tmp_path / "d/toy/pointers.zip.rejected").exists()
    assert len(tree_of(tmp_path / "folder")) == 7


@pytest.mark.parametrize("error", [zlib.error("invalid code"), OSError(22, "Invalid argument")])
def test_whatever_a_reader_of_zips_raises_is_said_of_the_pointers(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    (tmp_path / "p.zip").write_bytes(zip_of({"AudioWAV/a.wav": b"x"}))
    monkeypatch.setattr(zipfile.ZipFile, "read", fail)
    tree = LfsTree(Remote("p.zip", (), unverified="made on demand"), "AudioWAV", ".wav", 1, ())
    with pytest.raises(Unfit, match=r"p\.zip: not a zip of pointers"):
        files_behind(tree, tmp_path / "p.zip")


def test_a_zenodo_record_gives_its_audio_verified_by_its_own_checksum(server, tmp_path):
    record = acquire("toy", zenodo(server), tmp_path / "d", tmp_path / "folder", HASTY)
    assert tree_of(tmp_path / "folder") == {"a.wav": b"a"}
    assert [file["name"] for file in record["fetched"]] == ["record.json", "audio.zip"]
    server.files["/api/records/1/files/audio.zip/content"] = zip_of({"a.wav": b"b"})
    with pytest.raises(UserError, match="wrong checksum"):
        acquire("toy", zenodo_elsewhere(server), tmp_path / "e", tmp_path / "folder2", HASTY)


def zenodo_elsewhere(server):
    """The same record while its file is another one."""
    body = server.files["/api/records/1/files/audio.zip/content"]
    toy = zenodo(server)
    server.files["/api/records/1/files/audio.zip/content"] = body
    return toy


def test_a_dataverse_dataset_gives_its_files_in_their_folders(server, tmp_path):
    acquire("toy", dataverse(server), tmp_path / "d", tmp_path / "folder", HASTY)
    assert tree_of(tmp_path / "folder") == {f"OAF angry/{n}": d for n, d in WAVS.items()}


def test_a_restricted_dataverse_file_is_said(server, tmp_path):
    with pytest.raises(UserError, match=r"OAF angry/1000_DFA_ANG_XX\.wav is restricted"):
        acquire("toy", dataverse(server, restricted=True), tmp_path / "d", tmp_path / "f", HASTY)


@pytest.mark.parametrize("name", ["../evil.wav", "/etc/evil.wav", "a\\..\\evil.wav"])
def test_a_listing_cannot_name_a_file_outside_the_folder(server, tmp_path, name):
    with pytest.raises(UserError, match="the name"):
        acquire(
            "toy",
            dataverse(server, label=name, directoryLabel=""),
            tmp_path / "d",
            tmp_path / "f",
            HASTY,
        )
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"data": {}}', b"{\xff\xfe", b"\xff\xfe"])
def test_a_listing_that_is_none_is_said_and_asked_for_again(server, tmp_path, body):
    toy = dataverse(server)
    server.fail("/api/datasets/:persistentId/", instead(body))
    with pytest.raises(UserError, match=r"not the listing of a dataverse record|no \.json file"):
        acquire("toy", toy, tmp_path / "d", tmp_path / "f", HASTY)
    acquire("toy", toy, tmp_path / "d", tmp_path / "f", HASTY)
    assert len(tree_of(tmp_path / "f")) == 6


def test_two_runs_at_once_share_the_downloads_without_harm(server, tmp_path):
    toy = archives(server)
    server.fail("/one.zip", cut_off(100))
    threads = [
        threading.Thread(
            target=acquire, args=("toy", toy, tmp_path / "d", tmp_path / f"folder{n}", HASTY)
        )
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for n in range(3):
        assert len(tree_of(tmp_path / f"folder{n}")) == 2
    assert server.sent["/one.zip"] == len(server.files["/one.zip"]), "one fetched, two found it"


def test_a_run_killed_in_mid_transfer_leaves_no_lock_and_is_gone_on_with(server, tmp_path):
    toy = archives(server)
    server.fail("/one.zip", stall(100))
    script = (
        "import json, sys; from pathlib import Path\n"
        "from serflow.acquisition.acquire import acquire\n"
        "from serflow.acquisition.source import Source\n"
        "toy = Source.from_settings(json.loads(sys.argv[1]))\n"
        "acquire('toy', toy, Path(sys.argv[2]), Path(sys.argv[3]))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(asdict(toy)), tmp_path / "d", tmp_path / "f"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while server.sent["/one.zip"] < 100 or not (tmp_path / "d/toy/one.zip.part").exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "f").exists()
    acquire("toy", toy, tmp_path / "d", tmp_path / "f", HASTY)
    assert len(tree_of(tmp_path / "f")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f"]


def test_downloads_that_cannot_be_written_to_are_said(server, tmp_path):
    (tmp_path / "d").write_text("a file")
    with pytest.raises(UserError, match="Set `downloads:`"):
        acquire("toy", archives(server), tmp_path / "d", tmp_path / "folder", HASTY)


def test_a_licensed_corpus_is_not_downloaded_but_says_whom_to_ask(tmp_path):
    with pytest.raises(UserError, match=r"IEMOCAP is not open .*ask at https://sail\.usc\.edu"):
        acquire("iemocap", SOURCES["iemocap"], tmp_path / "d", tmp_path / "folder")
    assert "paths: {mine: ...}" in needs_a_licence("mine", "iemocap")
    assert "your own" in needs_a_licence("mine", "table")


def test_the_shim_writes_the_folder_and_the_record(server, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "workflow/scripts"))
    import download_corpus

    settings = json.loads(
        canonical(
            {"corpus": "toy", "source": asdict(archives(server)), "downloads": str(tmp_path / "d")}
        )
    )
    output = SimpleNamespace(
        folder=str(tmp_path / "out/folder"), record=str(tmp_path / "out/r.json")
    )
    download_corpus.main(SimpleNamespace(output=output), settings)
    assert len(tree_of(tmp_path / "out/folder")) == 2
    assert json.loads((tmp_path / "out/r.json").read_text())["source"] == "toy"


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_survives_its_way_through_the_rules_settings(name):
    assert Source.from_settings(json.loads(canonical(asdict(SOURCES[name])))) == SOURCES[name]


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_says_what_a_listing_of_corpora_needs(name):
    entry = SOURCES[name]
    assert entry.name == name and entry.title and entry.terms and entry.holds and entry.size > 0
    assert re.match(r"https?://", entry.home)
    assert is_open(name) == (
        name in {"emodb", "ravdess", "crema_d", "tess", "musan", "rirs_noises"}
    )
    if entry.archives or entry.records:
        assert entry.unpacked > entry.size, "an archive is smaller than what it unpacks to"
    for remote in entry.archives:
        assert remote.checksum or remote.unverified
        if remote.size:
            assert remote.size == entry.size


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_and_its_corpus_module_describe_the_same_folder(name):
    assert SOURCES[name].holds == importlib.import_module(f"serflow.corpora.{name}").HOLDS


def test_a_file_without_a_checksum_needs_a_reason():
    with pytest.raises(ValueError, match="a reason"):
        Remote("a.zip", ("http://corpus.test/a.zip",))
    for wrong in ("md5:123", "crc32:12345678", "d41d8cd98f00b204e9800998ecf8427e"):
        with pytest.raises(ValueError, match="is not 'md5:"):
            Remote("a.zip", (), checksum=wrong)


def test_the_registry_costs_the_plan_nothing():
    script = (
        "import sys; import serflow.acquisition.sources;"
        "print([m for m in ('requests', 'pandas', 'numpy', 'tqdm') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
