"""What hearing a frozen encoder once saves: 50 epochs x 5 folds of a classifier alone.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_frozen.py [EMODB]

Cached: serflow's layer means of all 535 recordings of EmoDB, then the training of five folds on them, all
measured whole. Uncached: the same system on audio, of which one fold is trained for one and for two
epochs; the difference is an epoch, and 250 of them are projected. One thread; a HuBERT of 6 layers, 192
dimensions and random weights, with the head of the HuBERT study.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench_bucketing import CLASSES, EMODB
from sklearn.model_selection import StratifiedKFold
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from serflow.audio import AudioStore
from serflow.context import Context
from serflow.corpora import emodb
from serflow.layer_means import LayerMeans, write_layer_means
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.means import layer_means
from serflow.packing import pack
from serflow.systems.interface import Examples, build

EPOCHS, FOLDS = 50, 5
HEAD = {"layers": "weighted_sum", "pooling": "mean", "type": "projector", "hidden": 256}


def encoder(folder: Path) -> str:
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=768,
        conv_dim=[128] * 7,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return str(folder)


def train(model: str, examples: Examples, epochs: int, folder: Path) -> float:
    """Seconds of one fold."""
    training = {"epochs": epochs, "batch_size": 8, "learning_rate": 1e-3, "optimizer": "adam"}
    block = {"model": model, "adaptation": "frozen", "head": HEAD, "training": training}
    system = build("speech_classifier", block, Context(list(CLASSES), 1, folder / "c"))
    start = time.perf_counter()
    system.fit(examples, None)
    return time.perf_counter() - start


def main(folder: str | Path = EMODB) -> None:
    """Measure and print."""
    folder = Path(folder)
    if not (folder / "wav").is_dir():
        print(f"skipped: needs the real EmoDB, and there is no {folder / 'wav'}")
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        model = encoder(scratch / "model")
        samples, index = scratch / "audio.i16", scratch / "audio.parquet"
        utterances, _ = pack(emodb.read(folder), samples, index, root=folder)
        store = AudioStore([(samples, index)])
        ids = utterances["utterance_id"].to_numpy()
        labels = np.array([CLASSES[utterance_id[-2]] for utterance_id in ids])
        splits = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(ids, labels))

        start = time.perf_counter()
        means = layer_means(
            SpeechEncoder(model, adaptation="frozen"), FrontEnd(model), store, ids.tolist()
        )
        lengths = [round(16_000 * store.seconds(utterance_id)) for utterance_id in ids]
        write_layer_means(means, ids.tolist(), lengths, scratch / "m.npy", scratch / "m.parquet")
        heard = time.perf_counter() - start
        rows = LayerMeans([(scratch / "m.npy", scratch / "m.parquet")])

        def examples(fold: int, **inputs) -> Examples:
            chosen = splits[fold][0]
            speakers = np.full(len(chosen), "")
            return Examples(ids[chosen].tolist(), labels[chosen], speakers, **inputs)

        fitted = 0.0
        for fold in range(FOLDS):
            on_means = examples(fold, layer_means=rows.rows(ids[splits[fold][0]].tolist()))
            fitted += train(model, on_means, EPOCHS, scratch / str(fold))
        one, two = (train(model, examples(0, audio=store), n, scratch / f"a{n}") for n in (1, 2))
    uncached = (two - one) * EPOCHS * FOLDS
    print(f"heard once: {heard:.1f} s; {FOLDS} folds x {EPOCHS} epochs on it: {fitted:.1f} s")
    print(f"an epoch on audio: {two - one:.1f} s; {FOLDS * EPOCHS} of them: {uncached:.0f} s")
    print(f"ratio: {uncached / (heard + fitted):.1f}; to reach: 20")


if __name__ == "__main__":
    main(*sys.argv[1:])
