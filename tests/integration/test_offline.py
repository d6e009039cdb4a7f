"""Compute nodes have no internet: jobs do their work without, and do not even try."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

# Loaded by every Python of the run: whoever looks for another machine is written down.
WATCH = """
import os, socket, traceback

def watched(name, real, place):
    def call(*arguments, **options):
        where = arguments[place] if len(arguments) > place else options
        local = ("localhost", "127.0.0.1", "::1", "", None, socket.gethostname())
        if isinstance(where, tuple):
            where = where[0]
        if where not in local and not str(where).startswith(("/", "\\0")):
            with open(os.environ["SEEN"], "a") as file:
                file.write(f"{name} {where}\\n" + "".join(traceback.format_stack(limit=12)))
        return real(*arguments, **options)
    return call

socket.getaddrinfo = watched("getaddrinfo", socket.getaddrinfo, 0)
class Socket(socket.socket):
    connect = watched("connect", socket.socket.connect, 1)
    connect_ex = watched("connect_ex", socket.socket.connect_ex, 1)
socket.socket = Socket
"""
# As slurm/bin/sbatch sets them in every job.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def cut_off() -> list[str]:
    """A command prefix that takes the network away."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if (
            shutil.which(prefix[0])
            and subprocess.run([*prefix, "true"], check=False).returncode == 0
        ):
            return prefix
    pytest.skip("needs `unshare --net` (util-linux), which this machine has not or does not allow")


def test_slurm_jobs_work_without_network_and_do_not_look_for_one(full_run, tmp_path):
    """A node waits minutes for a proxy that is not there, or fails after a day in the queue."""
    prefix = cut_off()
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    seen = tmp_path / "seen"
    seen.touch()
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": str(tmp_path), "SEEN": str(seen)}
    tried = (
        "import socket\ntry: socket.create_connection(('192.0.2.1', 9), 1)\nexcept OSError: pass"
    )
    subprocess.run([*prefix, sys.executable, "-c", tried], env=environment, check=True)
    assert "192.0.2.1" in seen.read_text(), "the watch itself"
    seen.write_text("")

    folder = shutil.copytree(full_run.folder, tmp_path / "clone", symlinks=True)
    config = ["--config", "studies=[demo]"]
    wanted = ["pack_audio", "extract_fingerprints", "transcribe_shard", "train_fold", "embed_fold"]
    tables = [f"results/demo/seed-1/posteriors/raw/{x}.parquet" for x in ("text", "speech_lda")]
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "snakemake", "--cores", "2", *tables, "--forcerun", *wanted, *config],
        cwd=folder, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    for rule in wanted:
        assert f"rule {rule}:" in done.stdout, rule
    assert seen.read_text() == ""
