"""Canary on real NeMo: tiny checkpoints of all three generations, trained on a dozen utterances."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
import pandas as pd
import pytest
import torch

from asr_fakes import AllVoices, Memory, assert_refused, shard_table, spoken
from runs import ROOT
from serflow.asr.engine import Settings, load_engine
from serflow.asr.shards import shard_of
from serflow.asr.text import clean
from serflow.asr.transcribe import transcribe_shard
from serflow.models import unpack_nemo
from serflow.tables import TRANSCRIPTS

STYLES = ("canary-1b", "canary-1b-flash", "canary-1b-v2")
every_style = pytest.mark.parametrize("settings", STYLES, indirect=True)


@pytest.fixture(scope="session")
def speech(tmp_path_factory) -> dict[str, tuple[np.ndarray, str]]:
    return spoken(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="session")
def store(speech) -> Memory:
    return Memory({name: samples for name, (samples, _) in speech.items()})


@pytest.fixture(scope="session")
def trained(speech, tmp_path_factory) -> Callable[[str], Settings]:
    """Micro Canaries that know the twelve utterances, by style."""
    from serflow.demo.canary import make_canary

    @cache
    def train(style: str) -> Settings:
        torch.set_num_threads(1)
        model = tmp_path_factory.mktemp("größe a") / "micro.nemo"
        make_canary(list(speech.values()), model, seed=1, steps=150, style=style)
        return Settings("micro", "canary", str(model), batch_seconds=20)

    return train


@pytest.fixture(scope="session")
def settings(request, trained) -> Settings:
    return trained(getattr(request, "param", STYLES[0]))


@pytest.fixture(scope="session")
def whole(store, settings, tmp_path_factory):
    """All twelve, transcribed as one shard."""
    journal = tmp_path_factory.mktemp("journal") / "whole.jsonl"
    rows, facts = transcribe_shard(
        store, shard_table(store), load_engine, AllVoices, journal, settings
    )
    assert facts["dtype"] == "float32"
    return rows


@every_style
def test_canary_transcribes_what_it_was_trained_on(whole, speech):
    TRANSCRIPTS.check(whole, "test")
    assert whole["utterance_id"].tolist() == list(speech)
    assert set(whole["asr"]) == {"micro"}
    assert jiwer.wer([text for _, text in speech.values()], whole["text"].tolist()) < 0.1


def test_the_same_seed_trains_the_same_weights(speech, tmp_path):
    from serflow.demo.canary import make_canary

    weights = []
    for name in ("a.nemo", "b.nemo"):
        make_canary(list(speech.values()), tmp_path / name, seed=1, steps=3)
        unpack_nemo(tmp_path / name, tmp_path / name[0])
        weights.append(torch.load(tmp_path / name[0] / "model_weights.ckpt", weights_only=True))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_shards_together_equal_one(whole, store, settings, tmp_path):
    engine = load_engine(settings)
    parts = {}
    table = shard_table(store)
    place = table["utterance_id"].map(lambda name: shard_of(name, 4))
    for shard in range(4):
        journal = tmp_path / f"{shard}.jsonl"
        rows, _ = transcribe_shard(
            store, table[place == shard], lambda _: engine, AllVoices, journal, settings
        )
        parts.update(rows.set_index("utterance_id")["text"])
    assert parts == dict(whole.set_index("utterance_id")["text"])


INTERRUPTED = """
import sys, time
import numpy as np
from asr_fakes import AllVoices, Memory, shard_table
from serflow.asr.engine import Settings, load_engine
from serflow.asr.transcribe import transcribe_shard

audio, model, journal, table = sys.argv[1:]

def slowly(settings):
    engine = load_engine(settings)
    hear = engine.transcribe
    engine.transcribe = lambda *batch: (time.sleep(0.3), hear(*batch))[1]
    return engine

store = Memory(dict(np.load(audio)))
settings = Settings("micro", "canary", model, batch_seconds=3)
rows, facts = transcribe_shard(store, shard_table(store), slowly, AllVoices, journal, settings)
rows.to_csv(table, index=False)
print(facts["resumed"])
"""


def test_kill_9_and_resume_equal_an_uninterrupted_run(whole, store, settings, tmp_path):
    """Hours of a cluster's night, with the real model in memory."""
    np.savez(tmp_path / "audio.npz", **store.audio)
    journal, table = tmp_path / "j", tmp_path / "table.csv"
    command = [sys.executable, "-c", INTERRUPTED, tmp_path / "audio.npz", settings.model]
    paths = os.pathsep.join([str(ROOT / "workflow/scripts"), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths}

    def start():
        return subprocess.Popen(
            [*command, journal, table], env=environment, stdout=subprocess.PIPE, text=True
        )

    killed = start()
    while not journal.exists() or journal.read_text().count("\n") < 4:
        assert killed.poll() is None, "it must be killed at work"
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert not table.exists()
    resumed = int(start().communicate()[0])
    assert 3 <= resumed < len(whole)
    again = pd.read_csv(table, keep_default_na=False)
    pd.testing.assert_frame_equal(again, whole, check_dtype=False)


@every_style
def test_order_and_size_of_batches_do_not_change_the_text(whole, store, settings):
    engine = load_engine(settings)
    inputs = list(store.audio.values())
    backwards = engine.transcribe(inputs[::-1], "en")[::-1]
    single = [engine.transcribe([samples], "en")[0] for samples in inputs]
    expected = whole["text"].tolist()
    assert [clean(text) for text in backwards] == expected
    assert [clean(text) for text in single] == expected


@every_style
def test_an_unpacked_folder_and_a_folder_with_an_archive_load_like_the_archive(
    whole, store, settings, tmp_path
):
    unpack_nemo(Path(settings.model), tmp_path / "unpacked")
    for folder in (tmp_path / "unpacked", Path(settings.model).parent):
        engine = load_engine(replace(settings, model=str(folder)))
        assert clean(engine.transcribe([store.audio["f2-0"]], "en")[0]) == whole["text"][0]


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        *(
            (style, {"languages": ["en", "et"]}, r"not know 'et'; it knows de, en, es, fr\. Choose")
            for style in STYLES
        ),
        (STYLES[0], {"model": "/nowhere/model.nemo"}, r"/nowhere/model.nemo does not exist"),
        (STYLES[0], {"model": "broken.nemo"}, r"broken.nemo: truncated or corrupt"),
        (STYLES[0], {"model": "not-a-model"}, r"holds 0 .nemo files"),
        (STYLES[0], {"model": "other"}, r"is a EncDecCTCModelBPE, not a Canary"),
    ],
    indirect=["settings"],
)
def test_a_wrong_model_or_language_stops_before_any_audio_is_read(
    change, message, settings, tmp_path
):
    (tmp_path / "broken.nemo").write_text("<html>not found</html>")
    (tmp_path / "not-a-model").mkdir()
    (tmp_path / "other").mkdir()
    ctc = "target: nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE\n"
    (tmp_path / "other" / "model_config.yaml").write_text(ctc)
    if "model" in change:
        change = {"model": str(tmp_path / change["model"])}  # an absolute path stays itself
    assert_refused(replace(settings, **change), tmp_path / "j", message)


@pytest.mark.parametrize("settings", ["canary-1b-v2"], indirect=True)
def test_a_released_model_knows_the_languages_of_its_card_whatever_its_vocabulary(
    settings, tmp_path
):
    """Real vocabularies name some 180 languages, most of which would come out as nonsense."""
    unpack_nemo(Path(settings.model), tmp_path / "model")
    for origin in ("nvidia/canary-1b-v2", "canary-1b-v2.nemo"):
        (tmp_path / "model/model.json").write_text(json.dumps({"origin": origin}))
        mine = replace(settings, model=str(tmp_path / "model"))
        load_engine(replace(mine, languages=["et", "uk"]))
        message = r"not know 'ca'; it knows bg, cs, da, de, el, en, es, et, fi, .*sv, uk\."
        assert_refused(replace(mine, languages=["ca", "en"]), tmp_path / "j", message)


def test_nemo_keeps_quiet(settings, tmp_path):
    """From the import on, which is when most of the noise comes: hence another process."""
    unpack_nemo(Path(settings.model), tmp_path / "model")
    code = (
        "import sys, numpy; from serflow.asr.engine import Settings, load_engine;"
        "engine = load_engine(Settings('x', 'canary', sys.argv[1]));"
        "engine.transcribe([numpy.random.default_rng(0).normal(0, 0.01, 16000).astype('f4')], 'en')"
    )
    scripts = ROOT / "workflow/scripts"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model"],
        cwd=scripts,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@every_style
@pytest.mark.parametrize("beam", [1, 3])
def test_keys_and_values_that_are_remembered_change_no_text(store, settings, beam, monkeypatch):
    """Those of another batch, or of tokens that changed places in a beam, would."""
    from serflow.asr.canary import load

    settings = replace(settings, beam=beam)
    ours = load(settings)
    monkeypatch.setattr("serflow.asr.canary.remember", lambda *_, **__: None)
    bare = load(settings)
    audio = list(store.audio.values())
    for batch in (audio[:1], audio[1:4], audio[:4], audio[:2], audio):
        assert ours.transcribe(batch, "en") == bare.transcribe(batch, "en")


@every_style
def test_a_beam_and_half_precision_transcribe_as_well(speech, store, settings):
    """What a GPU computes in; features stay in float32."""
    from serflow.asr.canary import Canary, load, restore

    texts = [text for _, text in speech.values()]
    wide = load(replace(settings, beam=3))
    heard = [clean(text) for text in wide.transcribe(list(store.audio.values()), "en")]
    assert jiwer.wer(texts, heard) < 0.1
    half = Canary(restore(settings), pnc=False, dtype=torch.bfloat16)
    assert half.facts["dtype"] == "bfloat16"
    heard = [clean(text) for text in half.transcribe(list(store.audio.values()), "en")]
    assert jiwer.wer(texts, heard) < 0.1
