"""Bad input through the real workflow: one clear message, nothing lost, nothing half-written."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from runs import copy_workflow, snakemake
from serflow.tables import SKIPPED, UTTERANCES
from small_emodb import SMALL_STUDY, with_emodb, write_small_emodb

PACKED = "results/corpora/emodb/utterances.parquet"


@pytest.fixture
def project(tmp_path):
    """A clone with a small corpus whose path has blanks and letters outside ASCII."""
    folder = copy_workflow(tmp_path / "clone")
    emodb = write_small_emodb(tmp_path / "Größe 1" / "EmoDB")
    (folder / "studies/small.yaml").write_text(SMALL_STUDY, encoding="utf-8")
    with_emodb(folder, emodb)
    return folder, emodb


def run(folder, *targets, **environment):
    done = snakemake(
        folder, "--cores", "2", *targets, "--config", "studies=[small]", check=False, **environment
    )  # fmt: skip
    return done.returncode, done.stdout


def test_a_missing_corpus_says_what_to_put_where(project):
    folder, emodb = project
    emodb.rename(emodb.with_name("moved"))
    code, text = run(folder)
    assert code != 0
    assert f"{emodb} does not exist" in text
    assert "paths: {emodb: ...}" in text
    assert "Traceback" not in text


def test_no_path_and_no_internet_says_where_to_put_what(project):
    folder, _ = project
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    start = text.index("emodb: ")
    config.write_text(text[:start] + "emodb: null" + text[text.index("\n", start) :], "utf-8")
    nowhere = "http://127.0.0.1:9"
    code, text = run(folder, http_proxy=nowhere, https_proxy=nowhere, no_proxy="")
    assert code != 0
    assert "the proxy does not connect" in text
    assert "results/downloads/emodb/download.zip and run again" in text
    assert "paths: {emodb: ...}" in text
    assert "Traceback" not in text


def test_bad_audio_stops_the_run_and_names_every_file(project):
    folder, emodb = project
    break_audio(emodb)
    code, text = run(folder, PACKED)
    assert code != 0
    for name in ("03a01Wa", "08a01Wa", "09a01Wa", "03a01Na", "08a01Na"):
        assert f"{name}.wav" in text
    assert "bad_audio: skip-and-report" in text
    assert not (folder / PACKED).exists()
    assert not list(folder.glob("results/corpora/emodb/audio.*"))


def test_bad_audio_is_skipped_and_reported_when_the_study_says_so(project):
    folder, emodb = project
    break_audio(emodb)
    study = folder / "studies/small.yaml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("subset: true", "subset: true, bad_audio: skip-and-report"), "utf-8")  # fmt: skip
    code, text = run(folder, PACKED)
    assert code == 0, text
    skipped = SKIPPED.read(folder / "results/corpora/emodb/skipped.parquet")
    assert len(skipped) == 5
    assert skipped["reason"].str.len().min() > 5
    assert len(UTTERANCES.read(folder / PACKED)) == 36 - 5


def break_audio(emodb):
    """An empty file, a text file, a truncated one, digital silence and NaN samples."""
    wav = emodb / "wav"
    (wav / "03a01Wa.wav").write_bytes(b"")
    (wav / "08a01Wa.wav").write_text("this is no audio")
    whole = (wav / "09a01Wa.wav").read_bytes()
    (wav / "09a01Wa.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(wav / "03a01Na.wav", np.zeros(16_000), 16_000, subtype="PCM_16")
    soundfile.write(
        wav / "08a01Na.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT"
    )


def test_a_class_without_training_rows_is_named_before_training(project):
    folder, emodb = project
    for speaker in ("08", "09"):
        for file in (emodb / "wav").glob(f"{speaker}*T*.wav"):
            file.unlink()
    code, text = run(folder, "results/small/folds.parquet")
    assert code != 0
    assert "sadness" in text
    assert "Traceback" not in text


def test_an_unknown_label_is_named_with_its_count(project):
    folder, _ = project
    study = folder / "studies/small.yaml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("[anger, neutral, sadness]", "[anger, neutral, sad]"), "utf-8")
    code, text = run(folder, "results/small/utterances.parquet")
    assert code != 0
    assert "sadness" in text
    assert "12" in text


def test_a_model_that_cannot_be_fetched_says_what_to_do(tmp_path):
    folder = copy_workflow(tmp_path / "clone")
    study = folder / "studies/demo.yaml"
    text = study.read_text(encoding="utf-8").replace("results/models/tiny-w2v-bert", "facebook/w2v-bert-2.0")  # fmt: skip
    study.write_text(text, "utf-8")
    done = snakemake(
        folder, "--cores", "1", "results/models/hub/facebook--w2v-bert-2.0/model.json",
        check=False, HF_ENDPOINT="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode != 0
    assert "cannot fetch facebook/w2v-bert-2.0 from the hub" in done.stdout
    assert "facebook/w2v-bert-2.0: /path/to/w2v-bert-2.0" in done.stdout
