"""The Apptainer image: from the lock file alone, and every job inside of it where it is asked for.

Apptainer itself cannot be installed everywhere: a stand-in that keeps its command lines and runs
their commands on the host, where `python` is that of the tests as it would be that of the image,
shows what Snakemake would have it do. No image is built here.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from runs import ROOT, copy_workflow, snakemake
from small_emodb import SMALL_STUDY, write_small_emodb

STAND_IN = """#!/usr/bin/env bash
case $1 in --version) echo "apptainer version 1.3.4"; exit ;; esac
echo "$@" >> "$CALLS"
export PATH="$IMAGE_BIN:$PATH"
exec "${@: -3}"
"""
TARGET = "results/corpora/emodb/utterances.parquet"


def test_the_image_has_what_the_lock_file_has_and_nothing_else():
    """Another list of packages would drift away from what the tests run with."""
    recipe = (ROOT / "envs/serflow.def").read_text(encoding="utf-8")
    installs = re.findall(r"^\s+python -m pip install (.*)$", recipe, re.MULTILINE)
    assert installs == ["--no-cache-dir --requirement /opt/requirements.lock"]
    assert "requirements.lock /opt/requirements.lock" in recipe
    wanted = re.search(
        r"^requires-python = \"(?:>=)([\d.]+)", (ROOT / "pyproject.toml").read_text(), re.M
    )
    assert re.search(rf"^From: python:{re.escape(wanted[1])}-", recipe, re.MULTILINE)


@pytest.fixture
def site(tmp_path):
    """A clone, and a corpus in a folder beside it."""
    folder = copy_workflow(tmp_path / "clone")
    corpus = write_small_emodb(tmp_path / "corpus")
    (folder / "studies/small.yaml").write_text(SMALL_STUDY, encoding="utf-8")
    return folder, ["--config", "studies=[small]", f"paths={{emodb: {corpus}}}"]


def test_jobs_run_inside_of_the_image_once(site, tmp_path):
    folder, config = site
    stand_in = tmp_path / "bin" / "apptainer"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN, encoding="utf-8")
    stand_in.chmod(0o755)
    (folder / "envs/serflow.sif").touch()
    calls = tmp_path / "calls"
    inside = {
        "PATH": f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}",
        "IMAGE_BIN": str(Path(sys.executable).parent),
        "CALLS": str(calls),
    }
    snakemake(folder, "--cores", "1", "--sdm", "apptainer", *config, "--", TARGET, **inside)
    asked = calls.read_text(encoding="utf-8")
    assert f"exec --home {folder}" in asked.replace("'", "")
    assert "list_utterances.py" in asked
    assert "envs/serflow.sif" in asked
    again = snakemake(folder, "--cores", "1", "--sdm", "apptainer", *config, "--", TARGET, **inside)
    assert "Nothing to be done" in again.stdout


def test_without_the_option_no_image_is_looked_for(site):
    folder, config = site
    assert not (folder / "envs/serflow.sif").exists()
    snakemake(folder, "--cores", "1", *config, "--", TARGET)
    assert (folder / TARGET).is_file()
