"""A node's own disk: a copy is whole and of the store of today, or it is not used."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import namedtuple

import pytest

from serflow import scratch
from serflow.errors import UserError
from serflow.scratch import scratch_folder, staged, staged_inputs, temporary_files_in


@pytest.fixture
def store(tmp_path):
    samples, index = tmp_path / "shared/audio.i16", tmp_path / "shared/audio.parquet"
    samples.parent.mkdir()
    samples.write_bytes(os.urandom(1_000_000))
    index.write_bytes(b"index")
    folder = tmp_path / "local disk"
    folder.mkdir()
    return samples, index, folder


def copies(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_store_is_copied_once_and_then_found(store, monkeypatch):
    samples, index, folder = store
    copy = staged(samples, index, folder)
    assert copy.parent == folder and copy.read_bytes() == samples.read_bytes()
    monkeypatch.setattr(scratch, "_copy", lambda *files: pytest.fail("copied again"))
    assert staged(samples, index, folder) == copy


def test_a_store_that_was_packed_anew_is_another_one(store):
    """Training on the samples of last week, of the same length, would be seen by nobody."""
    samples, index, folder = store
    stat, data = samples.stat(), bytearray(samples.read_bytes())
    found = {staged(samples, index, folder)}
    data[: len(data) // 2] = os.urandom(len(data) // 2)
    samples.write_bytes(data)
    os.utime(samples, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a copy that kept its date
    found.add(staged(samples, index, folder))
    index.write_bytes(b"other")
    found.add(staged(samples, index, folder))
    os.utime(samples)
    found.add(staged(samples, index, folder))
    assert len(found) == 4


def test_a_copy_that_broke_off_is_never_used(store, monkeypatch):
    samples, index, folder = store
    real = scratch._pass

    def breaks(reading, writing=None):
        if writing is not None:
            writing.write(b"half")
            raise OSError("No space left on device")
        return real(reading, writing)

    monkeypatch.setattr(scratch, "_pass", breaks)
    with pytest.raises(OSError, match="No space left"):
        staged(samples, index, folder)
    assert copies(folder) == []
    monkeypatch.setattr(scratch, "_pass", real)
    assert staged(samples, index, folder).read_bytes() == samples.read_bytes()


def test_a_disk_that_writes_other_bytes_is_found_out(store, monkeypatch):
    samples, index, folder = store
    digests = iter(["one", "another"])
    monkeypatch.setattr(scratch, "_pass", lambda reading, writing=None: next(digests))
    with pytest.raises(OSError, match="is the disk of this node sound"):
        staged(samples, index, folder)
    assert copies(folder) == []


def test_a_disk_that_is_full_leaves_the_shared_store(store, monkeypatch, capsys):
    samples, index, folder = store
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: usage(9, 9, 1_000_000))
    assert staged(samples, index, folder) == samples
    assert "not copied" in capsys.readouterr().out


def test_jobs_that_start_together_copy_once(store, monkeypatch):
    folder = store[2]
    real, done = scratch._copy, []

    def counted(*files):
        done.append(files)
        real(*files)

    monkeypatch.setattr(scratch, "_copy", counted)
    jobs = [threading.Thread(target=staged, args=store) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(done) == 1 and len(copies(folder)) == 1


def test_inputs_keep_what_is_no_packed_audio(store):
    samples, index, folder = store
    files = {"samples": [str(samples)], "index": [str(index)], "folds": "folds.parquet"}
    moved = staged_inputs(files, folder)
    assert moved["samples"][0].startswith(str(folder))
    assert {**moved, "samples": files["samples"]} == files
    assert staged_inputs(files, None) == files


def test_variables_are_those_of_the_node(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.delenv("NODE_DISK", raising=False)
    folder = scratch_folder(f"{tmp_path}/$SLURM_JOB_ID")
    assert folder.is_dir() and folder.parent == tmp_path / "42"
    with pytest.raises(UserError, match=r"scratch is '\$NODE_DISK/x', and this node has no such"):
        scratch_folder("$NODE_DISK/x")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Not a directory"):
        scratch_folder(f"{tmp_path}/file/x")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert scratch_folder("$NODE_DISK/x") is None, "local rules run where there is none"
    assert scratch_folder(None) is None


def test_temporary_files_go_there_and_do_not_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/tmp")
    with temporary_files_in(tmp_path):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            assert file.name.startswith(str(tmp_path))
        assert os.environ["TMPDIR"].startswith(str(tmp_path))
    assert os.environ["TMPDIR"] == "/tmp" and list(tmp_path.iterdir()) == []
    with temporary_files_in(None):
        assert tempfile.gettempdir() == "/tmp"
