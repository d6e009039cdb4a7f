"""Speed of transcription against NeMo's own `transcribe()`, and against the model's passes alone.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_transcription.py [EMODB]

Four ways through the same recordings of EmoDB with the same weights and decoding, in turn, one thread
for torch each:

- shard: serflow's whole loop (store, voice detection, batches by length, journal), as a job runs it;
- NeMo: `model.transcribe(files)`, its default batch size of 4, in the order of the names;
- passes: NeMo's encoder and decoder alone, on batches of like length that are in memory beforehand;
- ours: the same with serflow's decoder, which remembers its keys and values, and its quicker features.

The models: a tiny Canary trained on EmoDB's sentences, which hears all 535 recordings; and
canary-180m-flash's architecture with random weights, which hears a few. Random weights never end a
text, so that all allowed steps are decoded.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bench_canary_sizes import build, in_new_process

from runs import DATA
from serflow.asr.batches import fitting
from serflow.asr.engine import Settings
from serflow.asr.shards import split
from serflow.asr.text import clean
from serflow.asr.transcribe import transcribe_shard
from serflow.asr.voice import VoiceDetector
from serflow.audio import AudioStore
from serflow.corpora import emodb
from serflow.packing import pack

EMODB = DATA / "emodb"
BATCH_SECONDS = 120.0
ROUNDS = {"tiny": 15, "canary-180m-flash": 3}
FEW = 16  # recordings for the larger model
TRAINED_ON = 96  # recordings, so that the tiny one ends its texts as real ones do


def prepared(folder: Path, scratch: Path) -> tuple[AudioStore, pd.DataFrame, pd.DataFrame]:
    """EmoDB's store, its utterances, and all of it as one shard."""
    samples, index = scratch / "audio.i16", scratch / "audio.parquet"
    utterances, _ = pack(emodb.read(folder), samples, index, root=folder)
    (shard,) = split(utterances, "emodb", "en", 1)
    return AudioStore([(samples, index)]), utterances, shard


def tiny(store: AudioStore, utterances: pd.DataFrame, file: Path) -> Path:
    from serflow.demo.canary import make_canary

    chosen = utterances.sample(TRAINED_ON, random_state=0)
    pairs = [(store.samples(row.utterance_id), row.text.lower()) for row in chosen.itertuples()]
    make_canary(pairs, file, seed=1, steps=150)
    return file


def full_size(folder: Path) -> Path:
    in_new_process(build, "canary-180m-flash", folder)
    return folder


def passes(model: Any, inputs: list[np.ndarray]) -> Callable[[], None]:
    """Encoder and decoder on batches in memory; nothing else."""
    from serflow.asr.canary import encode_prompt

    inputs = sorted(inputs, key=len, reverse=True)
    batches = []
    while inputs:
        size = fitting(inputs, BATCH_SECONDS)
        lengths = torch.tensor([len(samples) for samples in inputs[:size]])
        signal = torch.zeros(size, int(lengths.max()))
        for row, samples in zip(signal, inputs[:size], strict=True):
            row[: len(samples)] = torch.from_numpy(samples)
        batches.append((signal, lengths))
        inputs = inputs[size:]
    prompt = encode_prompt(model, "en", pnc=False)

    @torch.inference_mode()
    def run() -> None:
        for signal, lengths in batches:
            _, _, encoded, mask = model(input_signal=signal, input_signal_length=lengths)
            model.decoding.decode_predictions_tensor(
                encoder_hidden_states=encoded,
                encoder_input_mask=mask,
                decoder_input_ids=prompt.repeat(len(signal), 1),
                return_hypotheses=False,
            )

    return run


def measure(name: str, model: Path, emodb_folder: Path, data: tuple, scratch: Path) -> None:
    """Print the seconds of the three ways, and their ratios."""
    from serflow.asr.canary import decode_by, load, prompt_slots, restore

    store, utterances, shard = data
    if name != "tiny":
        shard = shard.sample(FEW, random_state=0)
    settings = Settings(name, "canary", str(model), ["en"], batch_seconds=BATCH_SECONDS)
    engine = load(settings)
    # As NeMo has it, but for the greedy decoding.
    theirs = restore(settings).eval()
    decode_by(theirs, beam=1)
    names = shard["utterance_id"].sort_values()
    paths = utterances.set_index("utterance_id").loc[names, "path"]
    files = [str(emodb_folder / path) for path in paths]
    slots = prompt_slots(engine._model.prompt_format, "en", pnc=False)
    inputs = [store.samples(utterance_id) for utterance_id in names]
    # Not of `theirs`: `transcribe()` leaves parts of a model in training mode.
    plain = restore(settings).eval()
    decode_by(plain, beam=1)
    plain.preprocessor.featurizer.dither = 0.0
    plain.preprocessor.featurizer.pad_to = 0
    bare, remembering = passes(plain, inputs), passes(engine._model, inputs)
    voice = VoiceDetector()
    texts: dict[str, list[str]] = {}

    def ours() -> None:
        journal = scratch / "journal.jsonl"
        journal.unlink(missing_ok=True)
        rows, _ = transcribe_shard(store, shard, lambda _: engine, lambda: voice, journal, settings)
        texts["shard"] = rows.set_index("utterance_id").loc[names, "text"].tolist()

    def nemo() -> None:
        found = theirs.transcribe(files, verbose=False, **slots)
        texts["NeMo"] = [clean(getattr(item, "text", item)) for item in found]

    ways = {"shard": ours, "NeMo": nemo, "passes": bare, "ours": remembering}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    remembering()  # warm
    for number in range(ROUNDS[name]):
        # Not always one after the same other.
        for way, run in list(ways.items())[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            run()
            taken[way].append(time.perf_counter() - start)
    same = np.mean([a == b for a, b in zip(texts["shard"], texts["NeMo"], strict=True)])
    audio_s = shard["seconds"].sum()
    print(f"{name}: {len(shard)} recordings, {audio_s:.0f} s; the same text from both: {same:.1%}")
    middle = {way: statistics.median(seconds) for way, seconds in taken.items()}
    for way, seconds in middle.items():
        spread = f"({min(taken[way]):.2f} to {max(taken[way]):.2f})"
        print(f"  {way:7} {seconds:7.2f} s {spread}, {audio_s / seconds:.1f} times real time")
    for way, least in (("NeMo", 1.3), ("passes", 0.95), ("ours", 0.95)):
        ratio = middle[way] / middle["shard"]
        print(f"  speed of the shard by that of {way}: {ratio:.2f}; to reach: {least}", flush=True)


def main(folder: str | Path = EMODB) -> None:
    """Measure both models."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    folder = Path(folder)
    if not (folder / "wav").is_dir():
        print(f"skipped: needs the real EmoDB, and there is no {folder / 'wav'}")
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        data = prepared(folder, Path(scratch))
        model = tiny(*data[:2], Path(scratch) / "tiny.nemo")
        measure("tiny", model, folder, data, Path(scratch))
        unpacked = Path(scratch) / "full"
        measure("canary-180m-flash", full_size(unpacked), folder, data, Path(scratch))


if __name__ == "__main__":
    main(*sys.argv[1:])
