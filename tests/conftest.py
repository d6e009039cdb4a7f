"""Fixtures that several test folders share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

from runs import DATA, copy_workflow, snakemake
from small_emodb import SMALL_STUDY, with_emodb, write_small_emodb

FULL_RUN = ("/test_demo.py", "/test_invalidation.py", "/test_offline.py", "/test_transcription.py")


class OneFullRun(LoadFileScheduling):
    """A test file to each parallel worker, and all that look at `full_run` to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "full run" if file.endswith(FULL_RUN) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> OneFullRun:
    """Used by `pytest --numprocesses`."""
    return OneFullRun(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real corpora beside the checkout; tests that need them say so when they are not there."""
    if not DATA.is_dir():
        pytest.skip(
            f"needs real speech, and there is no {DATA}; "
            "set SERFLOW_SHARED_DATA to a folder with emodb/, ravdess/ and oddities/"
        )
    return DATA


@pytest.fixture(scope="session")
def emodb_folder(shared_data: Path) -> Path:
    """The real EmoDB."""
    folder = shared_data / "emodb"
    if not (folder / "wav").is_dir():
        pytest.skip(f"needs the real EmoDB, and there is no {folder / 'wav'}")
    return folder


@dataclass(frozen=True)
class FullRun:
    """A complete run of the demo study and of the small EmoDB-like one."""

    folder: Path
    emodb: Path
    seconds: float
    log: str


@pytest.fixture(scope="session")
def full_run(tmp_path_factory) -> FullRun:
    """Run both studies once, as a user would; several test files look at the results."""
    base = tmp_path_factory.mktemp("full run ü")  # a blank and a letter outside ASCII on purpose
    folder = copy_workflow(base / "clone")
    emodb = write_small_emodb(base / "EmoDB, größer")
    (folder / "studies" / "small.yaml").write_text(SMALL_STUDY, encoding="utf-8")
    with_emodb(folder, emodb)
    start = time.monotonic()
    done = snakemake(folder, "--cores", "2", "--config", "studies=[demo,small]")
    return FullRun(folder, emodb, time.monotonic() - start, done.stdout)
