"""A user's run: `snakemake --profile slurm`, from nothing to the report."""

from __future__ import annotations

import shutil

import pytest

from runs import copy_workflow, planned, snakemake
from serflow.accounting import accounts
from serflow.tables import TRANSCRIPTS
from slurm_runs import differing, finish, of_rule, start

DEMO = ["--config", "studies=[demo]"]
# What runs on nodes; all else is local: of seconds, or in need of the internet.
SUBMITTED = {
    "pack_audio": 1,
    "extract_fingerprints": 1,
    "transcribe_shard": 1,
    "train_fold": 4,
    "embed_fold": 1,
}


@pytest.fixture(scope="module")
def on_slurm(cluster, tmp_path_factory):
    """The demo study on the cluster."""
    folder = copy_workflow(tmp_path_factory.mktemp("slurm, größer") / "clone")
    finish(start(cluster, folder, *DEMO), folder)
    return folder


@pytest.fixture(scope="module")
def local(on_slurm, tmp_path_factory):
    """The study once more, from the same audio and models, as `make demo` runs it."""
    folder = tmp_path_factory.mktemp("local") / "clone"
    shutil.copytree(on_slurm, folder, symlinks=True)
    shutil.rmtree(folder / "results/demo")
    shutil.rmtree(folder / "results/corpora/demo/transcripts")
    (folder / "results/corpora/demo/fingerprints.parquet").unlink()
    snakemake(folder, "--cores", "2", *DEMO)
    return folder


def test_the_whole_demo_study_runs_to_its_report(on_slurm):
    assert (on_slurm / "results/demo/report.html").stat().st_size > 50_000
    assert planned(on_slurm, *DEMO) == []


def test_heavy_rules_are_jobs_of_their_own_and_all_others_stay_local(cluster, on_slurm):
    jobs = cluster.jobs(on_slurm)
    assert {job.state for job in jobs} == {"COMPLETED"}
    found = {rule: len(of_rule(jobs, rule)) for rule in SUBMITTED}
    assert found == SUBMITTED
    assert sum(found.values()) == len(jobs), [job.comment for job in jobs]


def test_its_tables_are_those_of_the_local_run_byte_for_byte(local, on_slurm):
    assert differing(on_slurm, local, "demo") == []
    transcripts = "results/corpora/demo/transcripts/demo-canary.parquet"
    here, there = (TRANSCRIPTS.read(folder / transcripts) for folder in (on_slurm, local))
    assert here.equals(there)


def test_accounting_has_what_the_jobs_used(cluster, on_slurm, monkeypatch):
    """The report's page of costs reads it; sacct's units are not the same in every line."""
    trained = [job.id for job in of_rule(cluster.jobs(on_slurm), "train_fold")]
    monkeypatch.setenv("PATH", cluster.environment()["PATH"])
    found = accounts(trained)
    assert list(found) == trained and len(trained) == SUBMITTED["train_fold"]
    for account in found.values():
        assert account.queued >= 0
        assert account.elapsed > 0 and account.cpu_seconds > 0
        assert 100 < account.memory < 10_000
