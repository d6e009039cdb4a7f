"""The demo corpus: the same bytes for a seed, a fair split, and cues of the intended strength."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serflow.corpora import demo
from serflow.demo.cues import COUNTS, EMOTIONS, SPEAKERS, plan
from serflow.demo.espeak import Manner, Utterance, render
from serflow.errors import UserError

SEED = 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """The corpus as another process makes it, in a folder with a blank and an umlaut."""
    folder = tmp_path_factory.mktemp("demo größer")
    code = "import sys; from serflow.demo.speech import synthesise; synthesise(sys.argv[1], 1, 2)"
    scripts = Path(demo.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=scripts)
    return folder


@pytest.fixture(scope="module")
def listing(corpus) -> pd.DataFrame:
    return demo.read(corpus)


def test_the_same_seed_gives_the_same_bytes_in_any_process_and_order(corpus, tmp_path):
    """eSpeak keeps state between utterances: a sound must not depend on what was said before."""
    some = list(enumerate(plan(SEED)))[::-25]
    render(
        [
            Utterance(tmp_path / f"{p.utterance}.wav", p.text, p.manner, (SEED << 16) + i)
            for i, p in some
        ],
        workers=3,
    )
    for _, planned in some:
        name = f"{planned.utterance}.wav"
        assert (tmp_path / name).read_bytes() == (corpus / "wav" / name).read_bytes(), name


def test_another_seed_is_another_corpus():
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_a_voice_that_espeak_lacks_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"no-such-voice"):
        render([Utterance(tmp_path / "x.wav", "hello", Manner("no-such-voice"), 1)])


def test_the_listing_is_complete_and_describes_every_utterance(listing, corpus):
    assert len(listing) == sum(sum(counts.values()) for counts in COUNTS.values())
    described = ["speaker", "gender", "session", "style", "sentence_id", "text", "split"]
    assert not listing[[*described, "arousal", "valence", "dominance"]].isna().any().any()
    assert listing[["arousal", "valence", "dominance"]].stack().between(1, 7).all()
    assert set(listing["label_raw"]) == set(EMOTIONS)
    info = soundfile.info(corpus / listing["path"].iloc[0])
    assert (info.samplerate, info.channels, info.subtype) == (22_050, 1, "PCM_16")
    seconds = np.array([soundfile.info(corpus / path).duration for path in listing["path"]])
    assert np.quantile(seconds, 0.02) > 0.9
    assert np.quantile(seconds, 0.8) < 3


def test_speakers_are_disjoint_and_both_genders_are_in_every_part(listing):
    parts = listing.groupby("split")["speaker"].agg(set)
    assert not parts["train"] & parts["dev"]
    assert not parts["train"] & parts["test"]
    assert not parts["dev"] & parts["test"]
    assert (listing.groupby("split")["gender"].nunique() == 2).all()
    assert Counter(speaker.gender for speaker in SPEAKERS) == {"female": 8, "male": 8}


def test_training_is_skewed_and_dev_and_test_are_uniform(listing):
    counts = listing.groupby("split")["label_raw"].value_counts().unstack()
    assert counts.loc["train", "neutral"] >= 6 * counts.loc["train", "fearful"]
    assert counts.loc["dev"].nunique() == counts.loc["test"].nunique() == 1
    assert counts.loc["test"].sum() >= 150


def test_a_closed_vocabulary_that_a_tiny_recogniser_can_learn(listing):
    words = {split: set(" ".join(rows["text"]).split()) for split, rows in listing.groupby("split")}
    assert len(set.union(*words.values())) <= 60
    assert words["test"] <= words["train"]


def describe(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Level, pitch, rate and timbre in a few numbers."""
    mel = librosa.power_to_db(
        librosa.feature.melspectrogram(y=samples, sr=sample_rate, hop_length=256, n_mels=40)
    )
    cepstrum = librosa.feature.mfcc(S=mel, n_mfcc=13)
    level = librosa.feature.rms(y=samples, frame_length=1024, hop_length=256)[0]
    pitch = np.log(librosa.yin(samples, fmin=60, fmax=500, sr=sample_rate, hop_length=256))
    voiced = level[: len(pitch)] > 0.1 * level.max()
    onset = librosa.onset.onset_strength(S=mel, sr=sample_rate, hop_length=256)
    return np.concatenate(
        [
            cepstrum.mean(axis=1),
            np.diff(cepstrum, axis=1).std(axis=1),
            np.quantile(pitch[voiced], [0.1, 0.25, 0.5, 0.75, 0.9]),
            [np.abs(np.diff(pitch[voiced])).mean(), np.log(level[voiced].mean())],
            [voiced.mean(), onset.mean(), onset.std(), np.log(len(samples))],
        ]
    )


def test_each_cue_alone_is_imperfect_and_both_together_are_better(listing, corpus):
    """If this fails the cues are mis-set: a fusion has nothing to gain, or nothing to add."""
    train, test = (listing["split"] == "train"), (listing["split"] == "test")
    audio = np.array([describe(*soundfile.read(corpus / p)) for p in listing["path"]])
    words = CountVectorizer(token_pattern=r"\S+").fit_transform(listing["text"]).toarray()
    labels = listing["label_raw"]
    prior = np.log(labels[train].value_counts(normalize=True).sort_index().to_numpy())
    logits = {}
    for name, inputs, strength in (("audio", audio, 0.1), ("text", words, 3.0)):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=3000))
        model.fit(inputs[train], labels[train])
        logits[name] = model.predict_log_proba(inputs[test])
    classes = model.classes_

    def macro_f1(log_p: np.ndarray) -> float:
        return f1_score(labels[test], classes[log_p.argmax(axis=1)], average="macro")

    raw = {name: macro_f1(log_p) for name, log_p in logits.items()}
    rebalanced = {name: macro_f1(log_p - prior) for name, log_p in logits.items()}
    fused = macro_f1(sum(log_p - prior for log_p in logits.values()))
    print(f"raw {raw}, rebalanced {rebalanced}, fused {fused:.3f}")
    assert all(0.4 < value < 0.9 for value in rebalanced.values())
    assert fused > max(rebalanced.values()) + 0.04
    assert rebalanced["audio"] > raw["audio"] or rebalanced["text"] > raw["text"]


def test_a_corpus_that_lost_a_file_is_refused_by_name(tmp_path):
    header = (
        "id,speaker,gender,session,style,sentence_id,text,emotion,arousal,valence,dominance,split"
    )
    row = ",f01,female,f01_1,scripted,0_sad_0,i miss her,sad,2,2,2,train"
    (tmp_path / "utterances.csv").write_text(f"{header}\na{row}\nb{row}\n")
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "a.wav").touch()
    with pytest.raises(UserError, match=r"only in utterances\.csv: b"):
        demo.read(tmp_path)
    (tmp_path / "wav" / "b.wav").touch()
    with pytest.raises(UserError, match="train sad: 2, published"):
        demo.read(tmp_path)
    assert demo.read(tmp_path, subset=True)["utterance_id"].tolist() == ["demo/a", "demo/b"]


def test_a_missing_table_or_folder_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        demo.read(tmp_path / "nowhere")
    (tmp_path / "wav").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*utterances\.csv"):
        demo.read(tmp_path)
