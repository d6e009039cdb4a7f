"""Posteriors from label tokens against generating the answer, on EmoSPeech's real texts.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_label_tokens.py [FOLDER]

A Gemma with random weights (6 layers of dimension 256, one token a word) is asked the prompt of
Table 1, one thread. Label tokens: one pass over the prompts, what they share read once.
`generate()`: greedy, with its own cache, answers of 2 or of 8 tokens; in the same sorted batches, or
utterance by utterance as model cards show it. Each in a process of its own, as users run them, since serflow
tells the C library to keep freed memory; they take turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import tiny_models
from runs import DATA
from serflow.context import Context
from serflow.nets.label_tokens import LabelTokenNet, Scorer
from serflow.nets.prompts import Prompts
from serflow.systems.text_inputs import TokenInputs
from serflow.training.inference import outputs
from serflow.training.setup import seed_everything

EMOSPEECH = DATA / "emospeech2024"
EMOTIONS = ["neutral", "disgust", "anger", "joy", "sadness", "fear"]
PROMPT = (
    "Instruction:\n"
    "Given the following audio transcription, predict the emotion of the speaker.\n"
    "The emotion can be one of the following: "
    "[neutral, sad, angry, happy, surprise, fear, disgust, contempt]\n"
    "The transcription is: {text}"
)
BATCH, ROUNDS = 16, 3
# A word and the end of the turn, as a trained model says it; and as one says it that was not.
ANSWERS = (2, 8)


def generated(model, rows: list[list[int]], batch: int, tokens: int, pad: int) -> list[list[int]]:
    """Answers of exactly `tokens` tokens: random weights seldom say the end of the turn."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    answers: list[list[int]] = [[]] * len(rows)
    for first in range(0, len(order), batch):
        chosen = order[first : first + batch]
        width = max(len(rows[i]) for i in chosen)
        ids = torch.tensor([[pad] * (width - len(rows[i])) + rows[i] for i in chosen])
        real = torch.arange(width) >= torch.tensor([[width - len(rows[i])] for i in chosen])
        said = model.generate(
            ids,
            attention_mask=real.long(),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
        )
        for i, answer in zip(chosen, said[:, width:].tolist(), strict=True):
            answers[i] = answer
    return answers


class Ours:
    """Label tokens, as serflow reads them."""

    def __init__(self, source: str, rows: list[list[int]], labels: list[list[int]]) -> None:
        seed_everything(Context(EMOTIONS, seed=1, checkpoints=Path()))
        self.net = LabelTokenNet(source, labels, "frozen")
        self.inputs = TokenInputs(rows, pad_of(source), 240)

    def shared(self) -> np.ndarray:
        return outputs(self.net, Scorer(self.net), self.inputs, BATCH)

    def full(self) -> np.ndarray:
        return outputs(self.net, self.net, self.inputs, BATCH)


class Theirs:
    """Answers, as transformers generates them."""

    def __init__(self, source: str, rows: list[list[int]], labels: list[list[int]]) -> None:
        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(source).eval()
        self.rows, self.pad = rows, pad_of(source)
        generated(self.model, rows[:BATCH], BATCH, 1, self.pad)  # warms up

    def generate(self, batch: int, tokens: int) -> None:
        generated(self.model, self.rows, batch, tokens, self.pad)


def pad_of(source: str) -> int:
    return AutoTokenizer.from_pretrained(source).pad_token_id


def begin(kind: type, *arguments: object) -> None:
    """Start a process with its side."""
    global side
    logging.disable_progress_bar()
    side = kind(*arguments)


def timed(method: str, *arguments: int) -> tuple[float, np.ndarray | None]:
    """Seconds of a method of this process's side, and what it gives."""
    start = time.perf_counter()
    found = getattr(side, method)(*arguments)
    return time.perf_counter() - start, found


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else EMOSPEECH
    if not (folder / "test.csv").exists():
        print(f"skipped: there is no test.csv of EmoSPeech 2024 in {folder}; give its folder")
        return
    with (folder / "test.csv").open(encoding="utf-8") as file:
        texts = [row["transcription"] for row in csv.DictReader(file)]
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as base:
        words = tiny_models.words_in([PROMPT, "user model", *texts, *EMOTIONS])
        source = str(tiny_models.gemma(Path(base) / "model", words, hidden=256, layers=6))
        prompts = Prompts(source, PROMPT)
        labels = prompts.labels({name: name for name in EMOTIONS})
        rows, _ = prompts(texts, 240)
        with ExitStack() as stack:
            ours, theirs = (
                stack.enter_context(
                    ProcessPoolExecutor(
                        1, get_context("spawn"), begin, (kind, source, rows, labels)
                    )
                )
                for kind in (Ours, Theirs)
            )
            shared, full = (
                log_softmax(ours.submit(timed, name).result()[1][:, :-1], axis=1)
                for name in ("shared", "full")
            )
            sides = {
                "label tokens": (ours, "shared"),
                "label tokens, prompts in full": (ours, "full"),
            }
            for batch in (BATCH, 1):
                for tokens in ANSWERS:
                    how = f"batches of {batch}" if batch > 1 else "one by one"
                    sides[f"generate {tokens} tokens, {how}"] = theirs, "generate", batch, tokens
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(ROUNDS):
                for name, (process, *call) in sides.items():
                    seconds[name].append(process.submit(timed, *call).result()[0])
    lengths = [len(row) for row in rows]
    print(
        f"EmoSPeech 2024, {len(rows)} texts, prompts of {np.mean(lengths):.0f} tokens on average, "
        f"median of {ROUNDS} rounds"
    )
    fastest = float(np.median(seconds["label tokens"]))
    for name, took in seconds.items():
        median = float(np.median(took))
        print(
            f"  {name:34s} {len(rows) / median:7.1f} texts/s   {median / fastest:5.2f} times the time"
        )
    difference = np.abs(shared - full).max()
    print(f"  the shared prefix changes log-posteriors by {difference:.1e} at most")


if __name__ == "__main__":
    main()
