"""Model folders: whole or absent, with their origin on record, and without an archive to unpack again."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from types import SimpleNamespace

import httpx2
import pytest
from huggingface_hub.errors import GatedRepoError

from serflow.errors import UserError
from serflow.models import fetch, made_whole, origin, unpack_nemo
from serflow.nets.loading import loading

FILES = {"./model_config.yaml": b"target: x\n", "./model_weights.ckpt": b"\0" * 5000}


def write_nemo(path, files=FILES):
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_a_nemo_file_is_unpacked_once_with_its_digest_on_record(tmp_path):
    archive = write_nemo(tmp_path / "mine.nemo")
    folder = tmp_path / "models" / "mine"
    unpack_nemo(archive, folder)
    assert (folder / "model_weights.ckpt").read_bytes() == FILES["./model_weights.ckpt"]
    found = origin(folder / "model.json")
    assert found["origin"] == "mine.nemo"
    assert found["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["../evil.yaml", "/tmp/evil.yaml"])
def test_an_archive_that_escapes_is_refused_and_leaves_nothing(tmp_path, name):
    archive = write_nemo(tmp_path / "evil.nemo", {name: b"x"})
    with pytest.raises(UserError, match=r"evil\.nemo"):
        unpack_nemo(archive, tmp_path / "models" / "evil")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.nemo", "models"]
    assert not list((tmp_path / "models").iterdir())


def test_a_cut_off_archive_is_refused(tmp_path):
    archive = write_nemo(tmp_path / "cut.nemo")
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"cut\.nemo: truncated or corrupt"):
        unpack_nemo(archive, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_a_fetched_model_keeps_what_came_out_of_its_archive_and_its_revision(tmp_path, monkeypatch):
    """canary-1b is one .nemo of 4 GB; every job would unpack it into its temporary folder."""

    def download(name, revision, local_dir, allow_patterns):
        assert "*.nemo" in allow_patterns
        write_nemo(local_dir / "canary.nemo")

    info = SimpleNamespace(sha="abc123", siblings=[SimpleNamespace(rfilename="canary.nemo")])
    api = SimpleNamespace(model_info=lambda name, revision: info)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    fetch("nvidia/canary-1b", tmp_path / "canary")
    names = sorted(path.name for path in (tmp_path / "canary").iterdir())
    assert names == ["model.json", "model_config.yaml", "model_weights.ckpt"]
    record = json.loads((tmp_path / "canary" / "model.json").read_text())
    assert record == {"origin": "nvidia/canary-1b", "revision": "abc123"}


def hub_that_raises(monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(model_info=refuse))


def test_a_gated_model_says_where_its_licence_is_and_what_to_set(tmp_path, monkeypatch):
    """Gemma and LLaMA: the hub's own error is a page long and names a 403."""
    request = httpx2.Request("GET", "https://huggingface.co/api/models/google/gemma-1.1-2b-it")
    answer = httpx2.Response(403, request=request)
    hub_that_raises(monkeypatch, GatedRepoError("403 Client Error", response=answer))
    with pytest.raises(UserError) as caught:
        fetch("google/gemma-1.1-2b-it", tmp_path / "gemma")
    said = str(caught.value)
    assert "google/gemma-1.1-2b-it asks for a licence" in said
    assert "https://huggingface.co/google/gemma-1.1-2b-it" in said
    assert "HF_TOKEN" in said
    assert not list(tmp_path.iterdir())


def test_the_access_token_is_in_no_message(tmp_path, monkeypatch):
    """A proxy's error quotes the request's headers, and messages end in logs that are shared."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub_that_raises(monkeypatch, OSError("proxy refused 'Authorization: Bearer hf_secret'"))
    with pytest.raises(UserError, match="proxy refused") as caught:
        fetch("google/gemma-1.1-2b-it", tmp_path / "gemma")
    assert "hf_secret" not in str(caught.value)
    with pytest.raises(UserError, match="bad header") as caught, loading("a/b", "language model"):
        raise OSError("bad header 'Bearer hf_secret'")
    assert "hf_secret" not in str(caught.value)


def test_a_model_that_fails_half_way_is_not_there(tmp_path):
    with pytest.raises(ValueError), made_whole(tmp_path / "m", "x") as folder:
        (folder / "config.json").touch()
        raise ValueError
    assert not list(tmp_path.iterdir())
