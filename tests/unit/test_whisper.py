"""Whisper through transformers, by the same loop: a tiny one that knows a dozen utterances."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import jiwer
import pytest
import torch

from asr_fakes import AllVoices, Memory, assert_refused, noise, shard_table, spoken
from serflow.asr.engine import Settings, load_engine
from serflow.asr.transcribe import transcribe_shard
from serflow.errors import UserError
from tiny_whisper import make_whisper


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return spoken(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def settings(speech, tmp_path_factory) -> Settings:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models") / "whisper"
    make_whisper(list(speech.values()), folder)
    return Settings("tiny", "whisper", str(folder), batch_seconds=20)


@pytest.fixture(scope="module")
def texts(speech, settings, tmp_path_factory) -> list[str]:
    store = Memory({name: samples for name, (samples, _) in speech.items()})
    journal = tmp_path_factory.mktemp("journal") / "j"
    rows, _ = transcribe_shard(store, shard_table(store), load_engine, AllVoices, journal, settings)
    return rows["text"].tolist()


def test_whisper_transcribes_what_it_was_trained_on(texts, speech):
    assert jiwer.wer([text for _, text in speech.values()], texts) < 0.1


def test_batches_and_a_beam_do_not_change_what_is_said(texts, speech, settings):
    inputs = [samples for samples, _ in speech.values()]
    engine = load_engine(settings)
    assert [engine.transcribe([samples], "en")[0].strip() for samples in inputs] == texts
    wide = load_engine(replace(settings, beam=3))
    assert jiwer.wer(texts, wide.transcribe(inputs, "en")) < 0.1


def test_the_language_is_asked_for(settings, monkeypatch):
    """Left to itself Whisper guesses, and translates what it takes for another language."""
    engine = load_engine(settings)
    tokens = {}
    generate = engine._model.generate

    def spy(*inputs, **asked):
        tokens[asked["language"]] = generate(*inputs, **asked)
        assert asked["task"] == "transcribe"
        return tokens[asked["language"]]

    monkeypatch.setattr(engine._model, "generate", spy)
    for language in ("en", "de"):
        engine.transcribe([noise(1)], language)
    assert set(tokens) == {"en", "de"}


def test_an_english_only_model_is_not_asked_for_a_language(settings, tmp_path):
    folder = tmp_path / "english"
    shutil.copytree(settings.model, folder)
    file = folder / "generation_config.json"
    data = json.loads(file.read_text()) | {"is_multilingual": False}
    del data["lang_to_id"], data["task_to_id"]
    file.write_text(json.dumps(data))
    english = replace(settings, model=str(folder))
    assert isinstance(load_engine(english).transcribe([noise(1)], "en")[0], str)
    with pytest.raises(UserError, match="does not know 'de'; it knows en"):
        load_engine(replace(english, languages=["de"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"languages": ["en", "et"]}, r"does not know 'et'; it knows de, en. Choose"),
        ({"model": "/nowhere"}, "/nowhere cannot be loaded as a Whisper"),
        ({"model": "llama"}, "is a llama, not a Whisper"),
    ],
)
def test_a_wrong_model_or_language_stops_before_any_audio_is_read(
    change, message, settings, tmp_path
):
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text('{"model_type": "llama"}')
    if change.get("model") == "llama":
        change = {"model": str(tmp_path / "llama")}
    assert_refused(replace(settings, **change), tmp_path / "j", message)
