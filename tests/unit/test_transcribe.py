"""The loop around an ASR engine gives every utterance its row, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asr_fakes import SECOND, AllVoices, Fake, Memory, noise, shard_table
from runs import ROOT
from serflow.asr.batches import Batches
from serflow.asr.engine import Settings
from serflow.asr.join import join, reference
from serflow.asr.segments import cut_long
from serflow.asr.shards import shard_count, shard_of, split
from serflow.asr.text import why_suspect
from serflow.asr.transcribe import transcribe_shard, windows
from serflow.errors import UserError
from serflow.tables import SHARD, TRANSCRIPTS, UTTERANCES

FAKE = Settings("fake", "none", "none", batch_seconds=10, max_error_rate=1.0)


def run(store: Memory, journal: Path, engine: Fake, voice=AllVoices, **change):
    """Transcripts of all that is in a store."""
    shard = shard_table(store, language=change.pop("language", "en"))
    rows, _ = transcribe_shard(
        store, shard, lambda _: engine, voice, journal, replace(FAKE, **change)
    )
    return rows


def test_every_utterance_has_its_row_whatever_its_audio(tmp_path):
    audio = {
        "good": noise(2),
        "nothing": noise(0),
        "click": noise(0.01),
        "one sample": noise(1 / SECOND),
        "silent": np.zeros(SECOND, np.float32),
        "near silence": noise(1, 1e-4),
        "nan": np.full(SECOND, np.nan, np.float32),
        "fails": noise(2.5, 1.0),
        "long": noise(61),
    }
    store = Memory(audio)
    shard = shard_table(store, "absent")
    rows, facts = transcribe_shard(store, shard, lambda _: Fake(), AllVoices, tmp_path / "j", FAKE)
    TRANSCRIPTS.check(rows, "test")
    assert rows["utterance_id"].tolist() == [*audio, "absent"]
    found = dict(zip(rows["utterance_id"], rows["status"], strict=True))
    assert found == {
        "good": "ok",
        "nothing": "empty",
        "click": "short",
        "one sample": "short",
        "silent": "silence",
        "near silence": "silence",
        "nan": "error",
        "fails": "error",
        "long": "ok",
        "absent": "error",
    }
    rows = rows.set_index("utterance_id")
    assert rows.loc["good", "text"] == "2 seconds"
    assert rows.loc["long", "note"] == "3 pieces"
    assert rows.loc["fails", "note"] == "ValueError: too loud"
    assert rows.loc["absent", "note"] == "not in the audio store"
    assert set(rows.loc[~rows["status"].isin(["ok", "suspect"]), "text"]) == {""}
    assert facts["device"] == "none"
    assert facts["audio_s"] == pytest.approx(shard["seconds"].sum(), abs=0.1)


def test_hum_above_the_silence_threshold_is_not_given_to_the_model(tmp_path):
    """Models invent text for it."""

    class NoVoice:
        def scores(self, batch, enough):
            return [0.0 if len(samples) == 2 * SECOND else 1.0 for samples in batch]

    engine = Fake()
    rows = run(Memory({"hum": noise(2), "speech": noise(3)}), tmp_path / "j", engine, NoVoice)
    assert rows["status"].tolist() == ["silence", "ok"]
    assert rows["text"].tolist() == ["", "3 seconds"]
    assert engine.batches == [1]


def test_a_steady_hum_is_no_voice_whatever_the_detector_says(tmp_path):
    time_s = np.arange(2 * SECOND) / SECOND
    hum = sum(np.sin(2 * np.pi * 100 * k * time_s) / k for k in range(1, 8)).astype(np.float32)
    rows = run(Memory({"hum": 0.05 * hum + 0.01}), tmp_path / "j", Fake())
    assert rows[["status", "text"]].to_numpy().tolist() == [["silence", ""]]
    assert "a steady sound, within 0." in rows["note"][0]


def test_too_many_errors_stop_the_shard_at_once_and_name_the_first(tmp_path):
    store = Memory({"a/bad": noise(5, 1.0)} | {f"a/good{i}": noise(4) for i in range(9)})
    engine = Fake()
    with pytest.raises(UserError, match=r"1 of 10 .* 0.01 allows: a/bad \(ValueError: too loud\)"):
        run(store, tmp_path / "j", engine, max_error_rate=0.01)
    assert sum(engine.batches) < 5, "a broken engine would fail on thousands one by one"
    engine = Fake()
    store.audio["a/bad"] = noise(5)
    rows = run(store, tmp_path / "j", engine, max_error_rate=0.01)
    assert set(rows["status"]) == {"ok"}


def test_a_killed_job_resumes_where_it_was(tmp_path):
    store = Memory({f"u{i}": noise(1 + i) for i in range(6)})
    whole = run(store, tmp_path / "whole", Fake())
    journal = tmp_path / "killed"
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:4]) + lines[4][:20])  # killed while it wrote the fourth row
    engine = Fake()
    assert run(store, journal, engine).equals(whole)
    assert sum(engine.batches) == 3
    done = Fake()
    assert run(store, journal, done).equals(whole)
    assert done.batches == []


KILLED = """
import sys, time
sys.path[:0] = [{tests!r}, {scripts!r}]
from asr_fakes import AllVoices, Fake, Memory, noise, shard_table
from serflow.asr.engine import Settings
from serflow.asr.transcribe import transcribe_shard

class Slow(Fake):
    def transcribe(self, batch, language):
        time.sleep(0.05)
        return super().transcribe(batch, language)

store = Memory({{f"u{{i}}": noise(1 + i / 10) for i in range(60)}})
rows, facts = transcribe_shard(
    store, shard_table(store), lambda _: Slow(), AllVoices, sys.argv[1],
    Settings("fake", "none", "none", batch_seconds=10),
)
rows.to_csv(sys.argv[2], index=False)
print(facts["resumed"])
"""


def test_kill_9_and_resume_equal_an_uninterrupted_run(tmp_path):
    code = KILLED.format(tests=str(ROOT / "tests"), scripts=str(ROOT / "workflow/scripts"))

    def start(journal, table):
        return subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / journal, tmp_path / table],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    killed = start("j", "never.csv")
    journal = tmp_path / "j"
    while not journal.exists() or journal.read_text().count("\n") < 15:
        assert killed.poll() is None, "it must be killed at work"
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "never.csv").exists()
    resumed, whole = start("j", "resumed.csv"), start("k", "whole.csv")
    assert int(resumed.communicate()[0]) >= 14
    assert int(whole.communicate()[0]) == 0
    assert (tmp_path / "resumed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_journal_of_another_model_language_or_audio_is_not_believed(tmp_path):
    store = Memory({"a": noise(1), "b": noise(2)})
    journal = tmp_path / "j"
    run(store, journal, Fake())
    store.audio["b"] = noise(3)
    engine = Fake()
    assert run(store, journal, engine)["text"].tolist() == ["1 seconds", "3 seconds"]
    assert engine.batches == [1]
    for change in ({"language": "de"}, {"model": "other"}, {"beam": 4}):
        engine = Fake()
        run(store, journal, engine, **change)
        assert sum(engine.batches) == 2, change
    assert json.loads(journal.read_text().splitlines()[0])["key"]


def test_a_failing_batch_costs_only_the_input_at_fault():
    inputs = [noise(1)] * 5 + [noise(1, 1.0)] + [noise(1)] * 2
    outcomes = Batches(Fake(), 100).transcribe(inputs, "en")
    assert [isinstance(o, ValueError) for o in outcomes] == [i == 5 for i in range(8)]


def test_a_full_memory_halves_the_batch_and_the_size_is_remembered():
    """Every further batch would otherwise fail first, and be done twice."""
    engine = Fake(memory_s=6)
    batches = Batches(engine, 16)
    assert (
        batches.transcribe([noise(2)] * 8, "en")
        == [" 2  seconds".join(["<|en|>", "<|endoftext|>"])] * 8
    )
    assert batches.seconds == 4
    assert engine.batches == [8, 4, 2, 2, 2, 2]
    engine.batches.clear()
    batches.transcribe([noise(2)] * 8, "en")
    assert engine.batches == [2, 2, 2, 2]


def test_one_input_beyond_the_memory_is_an_error_and_shrinks_nothing():
    batches = Batches(Fake(memory_s=6), 10)
    outcomes = batches.transcribe([noise(9), noise(2), noise(2)], "en")
    assert [isinstance(outcome, MemoryError) for outcome in outcomes] == [True, False, False]
    assert batches.seconds == 10


def test_a_broken_cuda_stops_the_job():
    """Nothing runs in such a process any more: all that is left would become an error."""

    class Broken:
        def transcribe(self, batch, language):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="CUDA error"):
        Batches(Broken(), 10).transcribe([noise(1)] * 2, "en")


def test_an_engine_that_drops_inputs_is_not_believed():
    class Dropping:
        def transcribe(self, batch, language):
            return ["text"] * min(len(batch), 1)

    assert Batches(Dropping(), 100).transcribe([noise(1)] * 3, "en") == ["text"] * 3


def test_windows_are_of_one_language_longest_first_and_within_their_seconds():
    seconds = [1, 9, 2, 8, 100, 3, 2, 5]
    shard = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(8)],
            "language": ["en"] * 7 + ["de"],
            "seconds": np.array(seconds, float),
            "audio_digest": "x",
        }
    )
    found = [rows["utterance_id"].tolist() for rows in windows(shard, 20)]
    assert found == [["u7"], ["u4"], ["u1", "u3"], ["u5", "u2", "u6", "u0"]]


def test_each_utterance_is_asked_for_in_its_own_language(tmp_path):
    store = Memory({"a": noise(1), "b": noise(2)})
    shard = shard_table(store).assign(language=["de", "es"])
    engine = Fake()
    transcribe_shard(store, shard, lambda _: engine, AllVoices, tmp_path / "j", FAKE)
    assert sorted(engine.asked) == ["de", "es"]


def test_long_audio_is_cut_at_the_quietest_point():
    samples = noise(70, 0.5)
    for second in (24.3, 51.7):
        samples[round(second * SECOND) : round((second + 0.3) * SECOND)] *= 0.01
    pieces = cut_long(samples)
    assert np.array_equal(np.concatenate(pieces), samples)
    assert [round(len(piece) / SECOND, 1) for piece in pieces] == pytest.approx(
        [24.5, 27.4, 18.1], abs=0.2
    )
    assert [len(piece) for piece in cut_long(noise(30))] == [30 * SECOND]
    assert min(len(piece) for piece in cut_long(noise(30.5))) >= 5 * SECOND


def test_loops_and_impossible_rates_are_suspect():
    assert why_suspect("the train was late", 2.0) == ""
    assert "words in 1.0 s" in why_suspect("one two three four five six seven eight", 1.0)
    assert "times running" in why_suspect("no " * 5, 5)
    assert "times running" in why_suspect("well i do i do i do i do i do", 5)
    assert "repetitive" in why_suspect("thank you for watching my videos " * 4, 30)


def utterances(n: int, **columns) -> pd.DataFrame:
    frame = pd.DataFrame({"utterance_id": [f"corpus/{i}" for i in range(n)], "corpus": "corpus"})
    frame = frame.reindex(columns=list(UTTERANCES.columns))
    return frame.assign(**{"duration_s": 2.0, "audio_digest": "x", "language": "en"} | columns)


def test_an_utterance_stays_in_its_shard_when_others_come():
    shards = list(split(utterances(1000), "corpus", None, 8))
    for rows in shards:
        SHARD.check(rows, "test")
    names = [set(rows["utterance_id"]) for rows in shards]
    assert sorted(chain(*names)) == sorted(utterances(1000)["utterance_id"])
    assert min(map(len, names)) > 90
    fewer = split(utterances(999), "corpus", None, 8)
    same = [set(rows["utterance_id"]) == old for rows, old in zip(fewer, names, strict=True)]
    assert same.count(False) == 1
    # Pinned: another hash would transcribe everything anew.
    assert [shard_of(f"corpus/{i}", 8) for i in range(6)] == [0, 4, 6, 4, 5, 7]


def test_jobs_are_of_half_an_hour_by_the_hours_of_audio():
    assert shard_count(0, on_gpu=True) == 1
    assert shard_count(237 * 3600, on_gpu=True) == 3
    assert shard_count(237 * 3600, on_gpu=False) == 60


def test_the_language_is_the_studys_or_each_utterances_own_and_never_guessed():
    two = utterances(2).assign(language=["de", None])
    (rows,) = split(two, "corpus", "es", 1)
    assert set(rows["language"]) == {"es"}
    with pytest.raises(UserError, match=r"1 of 2 utterances have no language: corpus/1"):
        list(split(two, "corpus", None, 1))


def test_a_corpus_of_texts_alone_is_not_transcribed_to_nothing():
    """Its systems would train on empty texts without a word."""
    with pytest.raises(UserError, match="corpus own has no audio to transcribe"):
        list(split(utterances(3).assign(audio_digest=None), "own", "es", 1))


def test_joining_names_what_is_missing_and_says_what_has_no_or_bad_audio():
    corpus = utterances(3).assign(audio_digest=["x", "x", None])
    skipped = pd.DataFrame(
        {
            "utterance_id": ["corpus/9", "corpus/8", "corpus/7"],
            "path": ["9.wav", "8.wav", "7.wav"],
            "reason": [
                "empty (0 bytes)",
                "holds no samples",
                "its 2 channels cancel to digital silence",
            ],
        }
    )
    rows = pd.DataFrame(
        {"utterance_id": ["corpus/1"], "text": "b", "status": "ok", "note": "", "asr": "c"}
    )
    with pytest.raises(UserError, match="1 utterances have no transcript: corpus/0"):
        join(corpus, skipped, [(rows, {})], "c")
    first = rows.assign(utterance_id="corpus/0", text="a")
    joined, facts = join(corpus, skipped, [(rows, {"device": "x"}), (first, {})], "c")
    TRANSCRIPTS.check(joined, "test")
    assert joined["text"].tolist() == ["a", "b", "", "", "", ""]
    assert joined["status"].tolist() == ["ok", "ok", "empty", "error", "empty", "silence"]
    assert joined["note"].tolist()[:4] == ["", "", "no audio", "empty (0 bytes)"]
    assert facts == {"shards": [{"device": "x"}, {}]}


def test_a_corpus_without_texts_is_no_reference():
    with pytest.raises(UserError, match="corpus own has no transcripts of its own"):
        reference(utterances(2), "gold", "own")
    rows = reference(utterances(2).assign(text=["oh no", None]), "gold", "own")
    TRANSCRIPTS.check(rows, "test")
    assert rows["status"].tolist() == ["ok", "empty"]
