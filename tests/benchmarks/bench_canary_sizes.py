"""Whether Canaries of NVIDIA's real sizes restore and transcribe without a GPU, how fast, how large.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_canary_sizes.py

For canary-180m-flash and canary-1b (or the one named as argument): one process builds the model from
its public configuration with random weights, saves it and unpacks it, as `tar -xf model.nemo` would.
Another restores the folder with serflow's engine and transcribes one batch, the four shortest
recordings of EmoDB (noise, where there are none), on one thread.

Printed are parameters; size of the unpacked folder; seconds to restore (NeMo is imported by then)
and to transcribe, of these in parentheses the CPU's, fewer on a busy machine; the decoder's steps;
peak resident memory of the second process with NeMo imported, after restoring and at the end. Random
weights write no end-of-text: the decoder runs to its limit, 50 tokens, the prompt's among them, more
than the encoder has frames. Needs 9 GB of memory and 9 GB in TMPDIR.
"""

from __future__ import annotations

import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sentencepiece
import soundfile

from runs import DATA, ROOT
from serflow.asr.engine import Settings
from serflow.audio import SAMPLE_RATE
from serflow.models import unpack_nemo

# NeMo is imported in the functions that need it: a new process begins with its parent's peak memory.

UTTERANCES, NOISE_S = 4, 1.5
PIECES = 1024  # of a language's tokenizer

Result = TypeVar("Result")


@dataclass(frozen=True)
class Size:
    """What differs between two Canaries, and what NVIDIA says of the result."""

    style: str
    special_tokens: int
    encoder_layers: int
    encoder_size: int
    decoder_layers: int
    positions: int
    parameters: str
    archive_gb: float


@dataclass(frozen=True)
class Reading:
    """Of this process: clocks in seconds, peak resident memory in GB."""

    wall: float
    cpu: float
    peak_gb: float

    @classmethod
    def now(cls) -> Reading:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            time.perf_counter(), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9
        )


# canary-180m-flash: the released `model_config.yaml`, as restored and dumped at
# https://github.com/sh1man999/canary_180m_flash_ru (canary_180m_flash_config.yaml): layers, sizes,
# heads, 128 mels, 1024 positions, 5248 tokens. Its four languages have 1024 pieces each (their
# tokenizers are there too), so 1152 are special. 17 + 4 layers and 182 M: the model card.
# canary-1b: 24 + 24 layers and "1 billion": the model card. Sizes, heads and 512 positions: NeMo's
# examples/asr/conf/speech_multitask/fast-conformer_aed.yaml. 4128 tokens, 32 of them special, and
# 128 mels (the example has 80): handy-computer/transcribe.cpp, scripts/convert-canary.py and
# reports/porting/canary/forward-map.md, compared there with the released checkpoint.
# Archives: file lists at https://huggingface.co/nvidia. They are all weights, 4 bytes a parameter.
SIZES = {
    "canary-180m-flash": Size("canary-1b-flash", 1152, 17, 512, 4, 1024, "182 M", 0.737),
    "canary-1b": Size("canary-1b", 32, 24, 1024, 24, 512, "1 B", 4.07),
}
# Alike in both, and but for the mels in that example.
DECODER_SIZE, HEADS, CHANNELS, MELS = 1024, 8, 256, 128


def build(name: str, folder: Path) -> int:
    """Unpack a new model into `folder`; the number of its parameters."""
    import torch
    from omegaconf import OmegaConf

    from serflow.demo.canary_config import configuration  # first: it quiets NeMo

    from nemo.collections.asr.models import EncDecMultiTaskModel  # isort: skip

    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = SIZES[name]
    text = [line for file in sorted(ROOT.glob("docs/*.md")) for line in file.open() if line.strip()]
    with tempfile.TemporaryDirectory() as scratch:
        small = configuration(size.style, ["speech"], Path(scratch))
        config = OmegaConf.merge(small, real_size(size))
        # The languages share a folder.
        folders = {part.dir: key == "spl_tokens" for key, part in config.tokenizer.langs.items()}
        for tokenizer, special in folders.items():
            enlarge(Path(tokenizer), text, size.special_tokens if special else 0)
        model = EncDecMultiTaskModel(cfg=config).eval()
        archive = Path(scratch) / "model.nemo"
        model.save_to(str(archive))
        unpack_nemo(archive, folder)
    return sum(parameter.numel() for parameter in model.parameters())


def real_size(size: Size) -> dict[str, Any]:
    """What the tiny configuration of the demo lacks."""
    return {
        "model_defaults": {
            "asr_enc_hidden": size.encoder_size,
            "lm_enc_hidden": DECODER_SIZE,
            "lm_dec_hidden": DECODER_SIZE,
        },
        "preprocessor": {"features": MELS},
        "encoder": {
            "feat_in": MELS,
            "n_layers": size.encoder_layers,
            "d_model": size.encoder_size,
            "n_heads": HEADS,
            "subsampling_conv_channels": CHANNELS,
        },
        "transf_encoder": {"hidden_size": DECODER_SIZE, "inner_size": 4 * DECODER_SIZE},
        "transf_decoder": {
            "config_dict": {
                "max_sequence_length": size.positions,
                "hidden_size": DECODER_SIZE,
                "inner_size": 4 * DECODER_SIZE,
                "num_layers": size.decoder_layers,
                "num_attention_heads": HEADS,
            }
        },
        "head": {"hidden_size": DECODER_SIZE},
    }


def enlarge(folder: Path, text: list[str], special_tokens: int) -> None:
    """Train a tokenizer of real size in the place of a tiny one.

    Special tokens are filled up to their number by unused ones, as in NeMo's
    scripts/speech_recognition/canary/build_canary_2_special_tokenizer.py.
    """
    symbols: list[str] = []
    if special_tokens:
        tiny = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        symbols = [piece for piece in tiny if piece.startswith("<") and piece != "<unk>"]
        missing = special_tokens - len(symbols) - 2  # "<unk>" and the blank
        symbols += [f"<|spltoken{number}|>" for number in range(missing)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(symbols or text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=special_tokens or PIECES,
        model_type="unigram" if special_tokens else "bpe",
        user_defined_symbols=symbols,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    names = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    (folder / "vocab.txt").write_text("\n".join(names), encoding="utf-8")


def measure(name: str, folder: Path, batch: list[np.ndarray]) -> tuple[list[Reading], int]:
    """Clocks and memory at the start, after restoring and at the end; steps of the decoder."""
    from torch.nn.modules.module import register_module_forward_hook

    from serflow.asr.canary import load

    steps = 0

    def count(module: Any, *_: Any) -> None:
        nonlocal steps
        # The decoder's head, once a step; NeMo calls most of the decoder past the hooks.
        steps += type(module).__name__ == "MultiLayerPerceptron"

    readings = [Reading.now()]
    engine = load(Settings(name, "canary", str(folder), languages=["de"]))
    readings.append(Reading.now())
    with register_module_forward_hook(count):
        texts = engine.transcribe(batch, "de")
    readings.append(Reading.now())
    if len(texts) != len(batch):
        raise RuntimeError(f"{name}: {len(batch)} utterances gave {len(texts)} texts")
    return readings, steps


def in_new_process(function: Callable[..., Result], *arguments: Any) -> Result:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def utterances() -> tuple[str, list[np.ndarray]]:
    """A name for them, and their samples."""
    files = sorted((DATA / "emodb" / "wav").glob("*.wav"), key=lambda file: file.stat().st_size)
    if files:
        return "of EmoDB", [soundfile.read(f, dtype="float32")[0] for f in files[:UTTERANCES]]
    noise = np.random.default_rng(0).normal(0, 0.1, (UTTERANCES, int(NOISE_S * SAMPLE_RATE)))
    return "of noise", list(noise.astype(np.float32))


def main(*names: str) -> None:
    """Measure and print."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    kind, batch = utterances()
    seconds = [len(samples) / SAMPLE_RATE for samples in batch]
    print(f"batch: {len(batch)} utterances {kind}, {min(seconds):.2f} to {max(seconds):.2f} s")
    print(
        f"{'':18} {'parameters (card)':>18} {'folder (archive)':>18} {'restore (CPU)':>15}"
        f" {'batch (CPU)':>15} steps  peak: imports, restored, end"
    )
    for name in names or SIZES:
        size = SIZES[name]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            parameters = in_new_process(build, name, folder)
            gigabytes = sum(file.stat().st_size for file in folder.rglob("*")) / 1e9
            readings, steps = in_new_process(measure, name, folder, batch)
        taken = [
            f"{after.wall - before.wall:.1f} s ({after.cpu - before.cpu:.1f})"
            for before, after in itertools.pairwise(readings)
        ]
        print(
            f"{name:18} {f'{parameters / 1e6:.1f} M ({size.parameters})':>18}"
            f" {f'{gigabytes:.3f} GB ({size.archive_gb})':>18} {taken[0]:>15} {taken[1]:>15}"
            f" {steps:5d}  {', '.join(f'{reading.peak_gb:.2f}' for reading in readings)} GB",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
