"""A small corpus in EmoDB's layout, and a study of it, made in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

SMALL_STUDY = """
title: "Small: three speakers of a corpus in EmoDB's layout"
classes: [anger, neutral, sadness]
corpora:
  emodb: {source: emodb, subset: true}
folds: {protocol: grouped_k_fold, group: speaker, k: 3}
audit:
  accept: [{overlap: sentence, reason: every speaker says every sentence}]
systems:
  svm: {family: functionals, classifier: svm}
  lr: {family: functionals, classifier: logistic_regression}
fusions:
  both: {method: logistic_regression, systems: [svm, lr], fit_on: cross_fit}
intervals: {resamples: 200}
"""


def write_small_emodb(folder: Path, speakers: tuple[str, ...] = ("03", "08", "09")) -> Path:
    """A folder in EmoDB's layout: tones whose pitch, level and rate tell three emotions."""
    rng = np.random.default_rng(0)
    (folder / "wav").mkdir(parents=True)
    lines = ["Nr.\tSatz\terkannt\tnatuerlich"]
    for speaker in speakers:
        for sentence in ("a01", "a02", "b01", "b02"):
            for emotion, pitch, level in (("W", 260, 0.5), ("N", 160, 0.2), ("T", 110, 0.1)):
                name = f"{speaker}{sentence}{emotion}a.wav"
                time_s = np.arange(int(16_000 * (1 + rng.random() / 2))) / 16_000
                pitch_hz = pitch * (1 + 0.1 * rng.standard_normal())
                wave = level * np.sign(np.sin(2 * np.pi * pitch_hz * time_s)) / 2
                wave += 0.01 * rng.standard_normal(len(wave))
                soundfile.write(folder / "wav" / name, wave, 16_000, subtype="PCM_16")
                lines.append(f"{len(lines)}\t{name}\t95,00\t80,00")
    (folder / "erkennung.txt").write_text("\n".join(lines) + "\n", encoding="latin-1")
    return folder


def with_emodb(folder: Path, emodb: Path) -> None:
    """Put a corpus path into a copy's config.yaml, as a user would."""
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    assert "emodb: null" in config
    config = config.replace("emodb: null", f"emodb: {str(emodb)!r}")
    (folder / "config.yaml").write_text(config, encoding="utf-8")
