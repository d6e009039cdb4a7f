"""Posteriors from label tokens against generating the answer, on EmoSPeech's real texts.

Run: PYTHONPATH=workflow/scripts:tests .venv/bin/python tests/benchmarks/bench_label_tokens.py [FOLDER]

A Gemma with random weights (6 layers of dimension 256, one token a word) is asked the prompt of
Table 1, one thread. Label tokens: one pass over the prompts, what they share read once.
`generate()`: greedy, with its own cache, answers of 2 or of 8 tokens; in the same sorted batches, or
utterance by utterance as model cards show it. The sides take turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import tiny_models
from runs import DATA
from serflow import training
from serflow.nets.label_tokens import LabelTokenNet, Scorer
from serflow.nets.prompts import Prompts
from serflow.systems.text_inputs import TokenInputs

EMOSPEECH = DATA / "emospeech2024"
EMOTIONS = ["neutral", "disgust", "anger", "joy", "sadness", "fear"]
PROMPT = (
    "Instruction:\n"
    "Given the following audio transcription, predict the emotion of the speaker.\n"
    "The emotion can be one of the following: "
    "[neutral, sad, angry, happy, surprise, fear, disgust, contempt]\n"
    "The transcription is: {text}"
)
BATCH, ROUNDS = 16, 2
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


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else EMOSPEECH
    if not (folder / "test.csv").exists():
        print(f"skipped: there is no test.csv of EmoSPeech 2024 in {folder}; give its folder")
        return
    with (folder / "test.csv").open(encoding="utf-8") as file:
        texts = [row["transcription"] for row in csv.DictReader(file)]
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as base:
        words = tiny_models.words_in([PROMPT, "user model", *texts, *EMOTIONS])
        source = str(tiny_models.gemma(Path(base) / "model", words, hidden=256, layers=6))
        prompts = Prompts(source, PROMPT)
        labels = prompts.labels({name: name for name in EMOTIONS})
        net = LabelTokenNet(source, labels, "frozen")
        model = AutoModelForCausalLM.from_pretrained(source).eval()
        pad = AutoTokenizer.from_pretrained(source).pad_token_id
    rows, _ = prompts(texts, 240)
    inputs = TokenInputs(rows, pad, 240)
    sides: dict[str, Callable[[], object]] = {
        "label tokens": lambda: training.outputs(net, Scorer(net), inputs, BATCH),
        "label tokens, prompts in full": lambda: training.outputs(net, net, inputs, BATCH),
    }
    for batch in (BATCH, 1):
        for tokens in ANSWERS:
            name = (
                f"generate {tokens} tokens, {f'batches of {batch}' if batch > 1 else 'one by one'}"
            )
            sides[name] = lambda b=batch, t=tokens: generated(model, rows, b, t, pad)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    generated(model, rows[:BATCH], BATCH, 1, pad)  # warms up, as do these
    shared, full = (log_softmax(sides[name]()[:, :-1], axis=1) for name in list(sides)[:2])
    difference = np.abs(shared - full).max()
    for _ in range(ROUNDS):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
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
    print(f"  the shared prefix changes log-posteriors by {difference:.1e} at most")


if __name__ == "__main__":
    main()
