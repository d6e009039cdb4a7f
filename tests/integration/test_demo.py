"""The whole chain, run as a user runs it: what the demo study promises, on its real results."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from runs import planned, snakemake
from serflow.posteriors import read_posteriors
from serflow.tables import COMPARISONS, FOLDS, SCORES, TRANSCRIPTS, UTTERANCES

DEMO = ["--config", "studies=[demo,small]"]


@pytest.fixture(scope="module")
def demo(full_run):
    return full_run.folder / "results" / "demo"


@pytest.fixture(scope="module")
def scores(demo):
    return SCORES.read(demo / "scores.parquet")


@pytest.fixture(scope="module")
def comparisons(demo):
    return COMPARISONS.read(demo / "comparisons.parquet")


def value(scores, system, stage, metric="macro_f1", role="test", label=""):
    rows = scores.query(
        "system == @system and stage == @stage and metric == @metric and role == @role "
        "and label == @label"
    )
    assert len(rows) == 1
    return rows["value"].item()


def test_fusion_beats_the_better_single_system(scores, comparisons):
    """Paired bootstrap on the test rows, 95 % interval above zero, at whatever stage is better."""
    singles = {
        (system, stage): value(scores, system, stage)
        for system in ("speech", "text")
        for stage in ("raw", "rebalanced")
    }
    system, stage = max(singles, key=singles.get)
    fused = comparisons[comparisons["stage"] == "fused"].set_index("system")
    fused = fused[(fused["baseline"] == system) & (fused["baseline_stage"] == stage)]
    assert fused.loc["interpolation", "low"] > 0, fused
    assert (fused["difference"] > 0).all(), fused


def test_rebalancing_raises_macro_f1_of_at_least_one_system(scores):
    gains = [value(scores, s, "rebalanced") - value(scores, s, "raw") for s in ("speech", "text")]
    assert max(gains) > 0.02, gains


@pytest.mark.parametrize("system", ["speech", "text"])
def test_each_cue_alone_is_above_chance_and_imperfect(scores, system):
    assert 2 / 6 < value(scores, system, "rebalanced", "uar") < 0.9


def test_nemo_transcribes_most_words_of_unseen_speakers(scores):
    wer = value(scores, "demo-canary", "transcribed", "wer", role="all", label="split test")
    assert wer < 0.25


def test_what_recognition_errors_cost_is_shown_on_paired_rows(full_run, scores, comparisons):
    """The same system on what was really said: the errors of the recogniser cost it something."""
    row = comparisons.query("system == 'text' and baseline == 'text_gold' and stage == 'raw'")
    recognised, said = (value(scores, s, "raw") for s in ("text", "text_gold"))
    assert row["difference"].item() == pytest.approx(recognised - said)
    assert row["difference"].item() < 0
    page = (full_run.folder / "results/demo/report.html").read_text(encoding="utf-8")
    assert "What recognition errors cost" in page
    assert "the best single system that reads no reference" in page


def test_every_utterance_has_one_transcript_and_every_test_row_one_posterior(full_run, demo):
    utterances = UTTERANCES.read(demo / "utterances.parquet")
    transcripts = TRANSCRIPTS.read(
        full_run.folder / "results/corpora/demo/transcripts/demo-canary.parquet"
    )
    assert transcripts["utterance_id"].tolist() == utterances["utterance_id"].tolist()
    folds = FOLDS.read(demo / "folds.parquet")
    expected = set(folds.loc[folds["role"] != "train", "utterance_id"])
    for path in demo.glob("seed-1/posteriors/*/*.parquet"):
        assert set(read_posteriors(path).rows["utterance_id"]) == expected, path


def test_speakers_are_disjoint_and_only_training_is_skewed(demo):
    rows = UTTERANCES.read(demo / "utterances.parquet")
    assert rows.groupby("speaker")["split"].nunique().max() == 1
    counts = pd.crosstab(rows["split"], rows["label"])
    assert counts.loc["test"].nunique() == counts.loc["dev"].nunique() == 1
    assert counts.loc["train"].max() > 3 * counts.loc["train"].min()


def test_posteriors_carry_the_effective_prior_of_training(demo):
    rows = UTTERANCES.read(demo / "utterances.parquet").query("split == 'train'")
    raw = read_posteriors(demo / "seed-1/posteriors/raw/text.parquet")
    share = rows["label"].value_counts(normalize=True)
    np.testing.assert_allclose(raw.priors["0"], [share[c] for c in raw.classes], atol=1e-9)
    rebalanced = read_posteriors(demo / "seed-1/posteriors/rebalanced/text.parquet")
    np.testing.assert_allclose(rebalanced.priors["0"], 1 / 6)


def test_the_report_and_the_csv_are_there_and_the_run_says_where(full_run, demo):
    assert (demo / "report.html").stat().st_size > 50_000
    assert "results/demo/report.html" in full_run.log
    assert len(pd.read_csv(demo / "scores.csv")) == len(SCORES.read(demo / "scores.parquet"))


def test_nothing_half_written_and_no_checkpoint_stays_behind(full_run):
    left = [p for p in (full_run.folder / "results").rglob("*") if "partial" in p.name]
    left += list((full_run.folder / "results").rglob("checkpoint-*"))
    left += list((full_run.folder / "results").rglob("*.journal.jsonl"))
    assert left == []


def test_snakemakes_own_report_builds_offline(full_run, tmp_path):
    done = snakemake(full_run.folder, "--report", str(tmp_path / "report.zip"), *DEMO)
    assert (tmp_path / "report.zip").stat().st_size > 10_000, done.stdout


def test_a_killed_training_resumes_to_the_same_posteriors(full_run, tmp_path):
    """kill -9 in the middle of an epoch; the rerun ends bit for bit as if nothing had happened."""
    folder = tmp_path / "copy"
    shutil.copytree(full_run.folder, folder, symlinks=True)
    fold = folder / "results/demo/seed-1/systems/speech/fold-0"
    before = (fold / "posteriors.parquet").read_bytes()
    shutil.rmtree(fold)
    arguments = [sys.executable, "-m", "snakemake", "--cores", "2", str(fold.relative_to(folder)), *DEMO]  # fmt: skip
    job = subprocess.Popen(
        arguments, cwd=folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(fold.parent.glob("checkpoints/*/*/checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline
        assert job.poll() is None, "training ended before it could be killed"
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert not fold.exists()
    snakemake(folder, "--unlock", *DEMO)
    assert any("system=speech" in job for job in planned(folder, *arguments[5:]))
    snakemake(folder, *arguments[3:])
    facts = pd.read_json(fold / "facts.json", typ="series")
    assert facts["resumed_at_step"] > 0
    assert (fold / "posteriors.parquet").read_bytes() == before
