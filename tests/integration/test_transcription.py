"""Recordings as they come, through the real rules and a real Canary: each utterance has its row."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from runs import snakemake
from serflow.tables import TRANSCRIPTS

STUDY = """
title: Whatever people have on their disks
classes: [angry, happy]
corpora:
  found:
    source: table
    constants: {label: angry, language: en}
    bad_audio: skip-and-report
folds: {protocol: stratified_k_fold, k: 2}
asr:
  canary: {engine: canary, model: results/models/demo-canary/model.nemo, resources: cpu-small}
systems: {svm: {family: functionals}}
"""
FORMATS = {
    "8k.wav": (8_000, "PCM_16"),
    "44k.wav": (44_100, "PCM_16"),
    "48k-24bit.wav": (48_000, "PCM_24"),
    "u8.wav": (16_000, "PCM_U8"),
    "float.wav": (16_000, "FLOAT"),
    "speech.flac": (16_000, "PCM_16"),
    "speech.mp3": (16_000, "MPEG_LAYER_III"),
    "speech.ogg": (16_000, "VORBIS"),
    "speech.opus": (16_000, "OPUS"),
}


def write_recordings(folder, speech):
    """Every kind of file that the plain NeMo stumbles over, and every kind that it reads."""
    rng = np.random.default_rng(0)
    for name, (rate, subtype) in FORMATS.items():
        form = "OGG" if name.endswith((".ogg", ".opus")) else None
        n = int(len(speech) * rate / 16_000)
        samples = np.interp(np.arange(n) * 16_000 / rate, np.arange(len(speech)), speech)
        soundfile.write(folder / name, samples, rate, subtype=subtype, format=form)

    def wav(name, samples, subtype="PCM_16"):
        soundfile.write(folder / name, samples, 16_000, subtype=subtype)

    wav("whole.wav", speech)
    whole = (folder / "whole.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    flac = (folder / "speech.flac").read_bytes()
    (folder / "corrupt.flac").write_bytes(flac[:200] + rng.bytes(len(flac) - 200))
    (folder / "text.wav").write_text("not found\n")
    (folder / "no-bytes.wav").write_bytes(b"")
    wav("header-only.wav", speech[:0])
    wav("one-sample.wav", speech[4000:4001])
    wav("10ms.wav", speech[4000:4160])
    wav("silence.wav", np.zeros(16_000))
    wav("near-silence.wav", 2e-5 * rng.uniform(-1, 1, 16_000), "FLOAT")
    hiss = 0.02 * rng.standard_normal(32_000)
    wav("hiss.wav", hiss)
    wav("swelling-hiss.wav", hiss * np.linspace(0.1, 1, len(hiss)))
    wav("nan.wav", np.full(16_000, np.nan), "FLOAT")
    wav("stereo.wav", np.stack([speech, speech], axis=1))
    wav("long.wav", np.tile(np.concatenate([speech, np.zeros(8_000)]), 40)[: 45 * 16_000])


@pytest.fixture(scope="module")
def rows(full_run, tmp_path_factory):
    """What the real rules write for a folder of such recordings."""
    base = tmp_path_factory.mktemp("found")
    folder, corpus = base / "copy", base / "corpus"
    shutil.copytree(full_run.folder, folder, symlinks=True)
    corpus.mkdir()
    demo = full_run.folder / "results/corpora/demo"
    texts = TRANSCRIPTS.read(demo / "transcripts/demo-canary.parquet")
    names = texts.loc[texts["status"] == "ok", "utterance_id"]
    source = next(iter(sorted(demo.glob(f"source/**/{names.iloc[0].split('/')[1]}.wav"))))
    speech, rate = soundfile.read(source)
    speech = np.interp(np.arange(0, len(speech), rate / 16_000), np.arange(len(speech)), speech)
    write_recordings(corpus, speech)
    listed = [*sorted(file.name for file in corpus.iterdir()), "missing.wav"]
    pd.DataFrame({"path": listed}).to_csv(corpus / "utterances.csv", index=False)
    (folder / "studies/found.yaml").write_text(STUDY, encoding="utf-8")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config |= {"studies": ["found"], "paths": {"found": str(corpus)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    target = "results/corpora/found/transcripts/canary.parquet"
    snakemake(folder, "--cores", "2", target)
    table = TRANSCRIPTS.read(folder / target)
    assert sorted(table["utterance_id"]) == sorted(f"found/{name}" for name in listed)
    return table.assign(name=table["utterance_id"].str.removeprefix("found/")).set_index("name")


@pytest.mark.parametrize(
    ("name", "status", "note"),
    [
        ("truncated.wav", "error", "cut off"),
        ("corrupt.flac", "error", "corrupt"),
        ("text.wav", "error", "unreadable or corrupt"),
        ("no-bytes.wav", "error", "0 bytes"),
        ("missing.wav", "error", "missing"),
        ("nan.wav", "error", "NaN"),
        ("header-only.wav", "empty", "holds no samples"),
        ("silence.wav", "silence", "digital silence"),
        ("one-sample.wav", "short", "0 ms"),
        ("10ms.wav", "short", "10 ms"),
        ("near-silence.wav", "silence", "dBFS"),
        ("hiss.wav", "silence", "a steady sound"),
        ("swelling-hiss.wav", "silence", "no voice found"),
    ],
)
def test_bad_audio_has_its_row_and_no_text(rows, name, status, note):
    row = rows.loc[name]
    assert (row["status"], row["text"]) == (status, "")
    assert note in row["note"]


def test_the_same_speech_in_any_format_is_heard(rows):
    """Channels, rates, widths and codecs; plain NeMo drops some of them and shifts the rest."""
    heard = rows.loc[["whole.wav", "stereo.wav", *FORMATS]]
    assert set(heard["status"]) <= {"ok", "suspect"}, heard
    assert heard["text"].str.len().min() > 0


def test_long_audio_is_cut_and_joined(rows):
    assert "2 pieces" in rows.loc["long.wav", "note"]
    assert len(rows.loc["long.wav", "text"].split()) > 10
