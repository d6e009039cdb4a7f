"""Noises and rooms become jobs and inputs of the systems that ask for them, and of no others."""

from __future__ import annotations

import pytest

from runs import copy_workflow, planned, snakemake

SOUNDS = {"musan", "rirs_noises"}
FOLD = "results/demo/seed-1/systems/{}/fold-0"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = copy_workflow(tmp_path_factory.mktemp("augmented") / "clone")
    study = folder / "studies" / "demo.yaml"
    text = study.read_text(encoding="utf-8")
    before, after = text.split("    crop: #")
    block = "    augmentation: {noises: {}, rirs: {}, speed: {}}\n"
    study.write_text(f"{before}{block}    crop: #{after}", encoding="utf-8")
    return folder


def test_an_augmented_system_waits_for_packed_noises_and_rooms(clone):
    jobs = planned(clone, FOLD.format("speech"))
    for rule in ("download_corpus", "list_utterances", "pack_audio"):
        assert {f"{rule} corpus={corpus}" for corpus in SOUNDS} <= set(jobs)
    text = snakemake(clone, "--cores", "2", "-n", FOLD.format("speech")).stdout
    (block,) = (part for part in text.split("\n\n") if "rule train_fold:" in part)
    for corpus in SOUNDS:
        for file in ("audio.i16", "audio.parquet", "utterances.parquet"):
            assert f"results/corpora/{corpus}/{file}" in block
    assert not [job for job in jobs if "fingerprints" in job and SOUNDS & set(job.split("="))]


def test_its_neighbours_do_not(clone):
    jobs = planned(clone, FOLD.format("text"))
    assert not [job for job in jobs if job.partition("corpus=")[2] in SOUNDS]
