"""Corpora through the real workflow: acquired, listed, packed, folded and audited before training."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from corpus_trees import write_iemocap, write_msp_podcast
from runs import copy_workflow, snakemake
from serflow.folds import folds_digest
from serflow.leakage.audit import AUDIT
from serflow.tables import FOLDS, LISTING, UTTERANCES, VOTES
from small_emodb import SMALL_STUDY, write_small_emodb

REST = """
systems:
  svm: {family: functionals, classifier: svm}
"""


def project(tmp_path: Path, study: str, paths: dict[str, Path] | None = None) -> Path:
    """A clone that runs one study."""
    folder = copy_workflow(tmp_path / "clone")
    (folder / "studies/own.yaml").write_text(study, encoding="utf-8")
    own = json.dumps({name: str(path) for name, path in (paths or {}).items()})
    (folder / "config.yaml").write_text(f"studies: [own]\npaths: {own}\n", encoding="utf-8")
    return folder


def run(folder: Path, target: str, check: bool = True):
    return snakemake(folder, "--cores", "2", target, check=check)


def test_an_open_corpus_is_unpacked_from_an_archive_that_was_brought_by_hand(tmp_path):
    """A cluster without internet: the archive lies in `downloads`, and nothing is fetched."""
    folder = project(tmp_path, SMALL_STUDY)
    corpus = write_small_emodb(tmp_path / "emodb")
    archive = folder / "results/downloads/emodb/download.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(corpus.rglob("*")):
            file.write(path, path.relative_to(corpus))
    run(folder, "results/own/audit.parquet")
    assert len(UTTERANCES.read(folder / "results/own/utterances.parquet")) == 36
    record = json.loads((folder / "results/corpora/emodb/download.json").read_text())
    (fetched,) = record["fetched"]
    assert fetched["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert fetched["url"] == ""
    # Rerunning the audit's chain needs neither the archive nor the net.
    shutil.rmtree(archive.parent)
    assert "Nothing to be done" in run(folder, "results/own/audit.parquet").stdout


def test_a_licensed_corpus_without_a_folder_stops_before_any_job_and_says_whom_to_ask(tmp_path):
    study = SMALL_STUDY.replace("emodb: {source: emodb", "iemocap: {source: iemocap")
    done = run(project(tmp_path, study), "results/own/audit.parquet", check=False)
    assert done.returncode
    assert "https://sail.usc.edu/iemocap/" in done.stdout
    assert "`paths: {iemocap: ...}`" in done.stdout
    assert "Traceback" not in done.stdout


IEMOCAP = """
title: IEMOCAP, four classes, leave one session out
classes: [neutral, happy, angry, sad]
corpora: {iemocap: {source: iemocap, subset: true}}
labels:
  map: {neu: neutral, hap: happy, exc: happy, ang: angry, sad: sad}
  drop: [fru, fea, sur, dis, oth, xxx]
folds: {protocol: leave_one_group_out, group: session, groups: 5}
"""
SCRIPTED = """
audit:
  accept:
    - {overlap: sentence, reason: The plays are the same in all sessions.}
    - {overlap: text, reason: Made up.}
"""
IMPROVISED = """
keep: {style: [improvised]}
audit: {accept: [{overlap: text, reason: Made up.}]}
"""


def test_iemocaps_scripts_are_shared_across_sessions_and_must_be_accepted_or_left_out(tmp_path):
    corpus = write_iemocap(tmp_path / "IEMOCAP_full_release")
    folder = project(tmp_path, IEMOCAP + REST, {"iemocap": corpus})
    refused = run(folder, "results/own/seed-1/systems/svm/fold-0", check=False)
    assert "sentence, train-test: in 5 of 5 folds" in refused.stdout
    assert "overlap: sentence" in refused.stdout
    assert not (folder / "results/own/seed-1").exists(), "nothing trains on folds that leak"
    study = folder / "studies/own.yaml"
    study.write_text(IEMOCAP + SCRIPTED + REST)
    run(folder, "results/own/audit.parquet")
    utterances = UTTERANCES.read(folder / "results/own/utterances.parquet")
    assert len(utterances) == 80 and utterances["speaker"].nunique() == 10
    votes = VOTES.read(folder / "results/corpora/iemocap/votes.parquet")
    assert set(votes["utterance_id"]) == set(utterances["utterance_id"])
    study.write_text(IEMOCAP + IMPROVISED + REST)
    run(folder, "results/own/audit.parquet")
    assert len(UTTERANCES.read(folder / "results/own/utterances.parquet")) == 40
    dropped = json.loads((folder / "results/own/dropped.json").read_text())
    assert dropped["style scripted"] == 40


MSP = """
title: MSP-Podcast, official split
classes: [neutral, happy, angry, sad]
corpora: {msp_podcast: {source: msp_podcast, subset: true}}
keep: {partition: [Train, Development, Test1]}
labels: {drop: [no_agreement, other]}
folds: {protocol: official, dev_per_class: 2}
audit:
  accept:
    - {overlap: unknown_speaker, reason: The corpus names no speaker for them.}
    - {overlap: text, reason: Made up.}
  near_duplicates: false
"""


def test_msp_podcast_keeps_its_partitions_and_balances_its_dev_set(tmp_path):
    corpus = write_msp_podcast(tmp_path / "MSP", items={"Train": 8, "Development": 4, "Test1": 4})
    folder = project(tmp_path, MSP + REST, {"msp_podcast": corpus})
    run(folder, "results/own/audit.parquet")
    folds, facts = FOLDS.read_with_metadata(folder / "results/own/folds.parquet")
    assert folds["role"].value_counts().to_dict() == {"train": 32, "test": 16, "dev": 8}
    assert facts["digest"] == folds_digest(folds)


EMOSPEECH = """
title: EmoSPeech 2024, transcripts alone
classes: [anger, disgust, fear, joy, neutral, sadness]
corpora: {emospeech2024: {source: emospeech2024}}
labels: {unlabelled: drop}
folds: {protocol: stratified_k_fold, k: 5, seed: 42, order: position}
audit:
  accept:
    - {overlap: unknown_speaker, reason: The organisers name no speakers.}
    - {overlap: text, reason: A few sentences were published twice.}
"""


def test_the_texts_of_emospeech_are_folded_and_audited_without_any_audio(tmp_path, shared_data):
    folder = project(tmp_path, EMOSPEECH + REST, {"emospeech2024": shared_data / "emospeech2024"})
    run(folder, "results/own/audit.parquet")
    assert len(FOLDS.read(folder / "results/own/folds.parquet")) == 5 * 3000
    findings = AUDIT.read(folder / "results/own/audit.parquet")
    status = findings.groupby("check")["status"].agg(set)
    assert status["unknown_speaker"] == {"accepted"}
    assert "accepted" in status["text"]
    assert json.loads((folder / "results/own/dropped.json").read_text()) == {"without a label": 750}


ACTED = """
title: RAVDESS and CREMA-D, what there is of them
classes: [angry, disgust, fearful, happy, neutral, sad]
corpora:
  ravdess: {source: ravdess, subset: true}
  crema_d: {source: crema_d, subset: true}
labels:
  map: {anger: angry, fear: fearful}
  drop: [calm, surprised]
folds: {protocol: random_split, test: 0.2, stratify: true}
audit:
  accept:
    - {overlap: speaker, reason: The paper's random split.}
    - {overlap: sentence, reason: The paper's random split.}
"""


def test_real_ravdess_and_crema_d_become_one_study_and_their_random_split_is_audited(
    tmp_path, shared_data
):
    paths = {"ravdess": shared_data / "ravdess", "crema_d": shared_data / "crema-d"}
    missing = [str(path) for path in paths.values() if not path.is_dir()]
    if missing:
        pytest.skip(f"needs real speech, and there is no {missing}")
    folder = project(tmp_path, ACTED + REST, paths)
    run(folder, "results/own/audit.parquet")
    utterances = UTTERANCES.read(folder / "results/own/utterances.parquet")
    assert utterances["corpus"].value_counts().to_dict() == {"ravdess": 44, "crema_d": 12}
    findings = AUDIT.read(folder / "results/own/audit.parquet").set_index(["check", "between"])
    speakers = findings.loc[("speaker", "train-test")]
    assert (speakers["status"], speakers["reason"]) == ("accepted", "The paper's random split.")
    assert findings.loc[("near_duplicate", "train-test"), "status"] == "ok"
    listing = LISTING.read(folder / "results/corpora/crema_d/listing.parquet")
    assert not pd.isna(listing[["age", "race", "ethnicity", "gender"]]).any(axis=None)
