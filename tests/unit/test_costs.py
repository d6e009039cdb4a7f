"""What a study cost, as it is now: its own jobs, what failed, and what would have done."""

from __future__ import annotations

import json

from serflow.accounting import Account
from serflow.attempts import path_of
from serflow.config.study import StudyConfig
from serflow.report.costs import costs
from serflow.report.formats import count
from serflow.report.sections import Cell, costs_table
from synthetic_study import SIX, config_of


def test_what_failed_and_queued_on_a_cluster_is_counted_and_what_would_do_is_said(
    tmp_path, monkeypatch
):
    """A benchmark file tells of the attempt that succeeded alone."""
    config = StudyConfig.model_validate(config_of(SIX))
    name = "speech-seed-1-fold-0"
    benchmark = tmp_path / "six/benchmarks" / f"train_fold.{name}.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\tmax_rss\tcpu_time\n1200\t3000\t900\n", encoding="utf-8")
    log = tmp_path / "six/logs/train_fold" / f"{name}.log"
    log.parent.mkdir(parents=True)
    events = [
        {"started": 1000, "slurm_job": "7", "asked": {"cpus": 4, "mem_mb": 8300, "runtime": 60, "gpu": 2}},
        {"started": 5000, "slurm_job": "8", "asked": {"cpus": 4, "mem_mb": 16600, "runtime": 120, "gpu": 2}},
        {"started": 5000, "ended": 6200, "succeeded": True},
    ]  # fmt: skip
    lines = "".join(json.dumps(event) + "\n" for event in events)
    path_of(log).write_text(lines, encoding="utf-8")
    booked = {
        "7": Account(queued=30, elapsed=600, cpu_seconds=100, memory=8000),
        "8": Account(queued=90, elapsed=1210, cpu_seconds=1000, memory=3300),
    }
    monkeypatch.setattr("serflow.report.costs.accounts", lambda jobs: {j: booked[j] for j in jobs})
    found = costs(tmp_path, "six", config)
    (cost,) = (cost for cost in found if cost.jobs)
    assert (cost.failed, cost.queued, cost.longest_queued) == (1, 120, 90)
    assert (cost.seconds, cost.longest, cost.cpu_seconds) == (1800, 1200, 1100)
    assert cost.gpu_seconds == 2 * (600 + 1200)
    assert (cost.memory, cost.asked_memory, cost.asked_seconds) == (8000, 16600, 7200)
    assert (cost.enough_memory, cost.enough_minutes) == (10500, 30)
    table = costs_table(found)
    row = dict(zip(table.columns, next(r for r in table.rows if "speech" in r[0]), strict=True))
    assert row["Asked"] == Cell(f"{count(16600)} MB", "120 min")
    assert row["Would do"] == Cell(f"{count(10500)} MB", "30 min")
    assert row["Queued"] == Cell("2.0 min", "longest 1.5 min")
    monkeypatch.setattr("serflow.report.costs.accounts", lambda jobs: {})
    alone = costs_table(costs(tmp_path, "six", config))
    assert "Queued" not in alone.columns, "a column of which nothing is known"
    assert "Failed attempts" in alone.columns


def test_costs_are_those_of_the_study_as_it_is(tmp_path):
    """Benchmarks of other studies' models, other seeds and older settings stay on disk."""
    config = config_of(SIX)
    speech = {"family": "speech_classifier", "model": "results/models/tiny-w2v-bert"}
    speech["adaptation"] = "full"
    config = StudyConfig.model_validate(
        {**config, "systems": {"speech": speech}, "fusions": {}, "primary": None}
    )
    for name in [
        "models/benchmarks/make_tiny_encoder.tsv",
        "models/benchmarks/make_demo_canary.tsv",  # this study's ASR is another model
        "six/benchmarks/train_fold.speech-seed-1-fold-0.tsv",
        "six/benchmarks/train_fold.speech-seed-2-fold-0.tsv",
        "six/benchmarks/train_fold.speech-seed-1-fold-7.tsv",
        "six/benchmarks/write_report.tsv",
        "six/benchmarks/measure_something_new.tsv",
        "corpora/six/benchmarks/transcribe_shard.tiny-canary-0-of-1.tsv",
        "corpora/six/benchmarks/transcribe_shard.tiny-canary-0-of-4.tsv",
        "corpora/six/benchmarks/transcribe_shard.other-0-of-1.tsv",
        "corpora/six/benchmarks/extract_functionals.tsv",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("s\tmax_rss\tcpu_time\n2\t3\t1\n")
    shard = tmp_path / "corpora/six/transcripts/tiny-canary/shards/0-of-1.parquet"
    shard.parent.mkdir(parents=True)
    shard.touch()
    found = {cost.title: cost.jobs for cost in costs(tmp_path, "six", config) if cost.jobs}
    assert found == {
        "Make the tiny encoder": 1,
        "Transcribe": 1,
        "Train and predict: speech": 1,
        "Measure something new": 1,
    }
