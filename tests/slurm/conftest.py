"""Fixtures of the tests that run on a private Slurm cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with accounting, for the whole session."""
    yield from _started(accounting=True)


@pytest.fixture(scope="session")
def cluster_without_accounting() -> Iterator[Cluster]:
    """A cluster on which only squeue knows of jobs."""
    yield from _started(accounting=False)


def _started(accounting: bool) -> Iterator[Cluster]:
    # Not below pytest's own folders, whose names are too long for sockets.
    with Cluster(Path(tempfile.mkdtemp(prefix="serflow-slurm-")), accounting) as cluster:
        yield cluster
