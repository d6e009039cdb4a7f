"""A tiny Canary that really transcribes: NVIDIA's classes and prompts in a `.nemo` file of 1.5 MB.

Trained in seconds on the sentences of a closed vocabulary, it stands where the hub model cannot be
downloaded.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import ctc_loss
from torch.nn.utils.rnn import pad_sequence

from serflow.audio import SAMPLE_RATE
from serflow.demo.canary_config import MELS, SIZE, Style, configuration  # first: it quiets NeMo

from nemo.collections.asr.models import EncDecMultiTaskModel  # isort: skip
from nemo.utils.app_state import AppState  # isort: skip

STEPS, BATCH, LEARNING_RATE, WARMUP = 450, 16, 3e-3, 50
# Speed factors of the audio: a shorter vocal tract, a higher voice. There are few training speakers.
SPEEDS = (1.0, 0.9, 1.1)
# Frames and bands blanked at most, as in SpecAugment.
FRAMES_BLANKED, BANDS_BLANKED = 12, 10
# A bucket's lengths differ by up to this many frames more than they must, so that batches vary.
LENGTH_JITTER = 30


def make_canary(
    pairs: Sequence[tuple[NDArray[np.float32], str]],
    out: str | Path,
    seed: int,
    steps: int = STEPS,
    style: Style = "canary-1b",
) -> None:
    """Train a tiny Canary on `pairs` and save it.

    Parameters
    ----------
    pairs : sequence of (samples, text)
        16 kHz float32; lower-case English without punctuation.
    out : path
        The `.nemo` file.
    seed : int
        The same seed gives the same weights on the same machine and number of threads.
    steps : int
        Of the optimiser.
    style : {"canary-1b", "canary-1b-flash", "canary-1b-v2"}
        Whose prompt and tokenizers; see `serflow.demo.canary_config`.
    """
    torch.manual_seed(seed)
    # NeMo would look for parts of a model that this process restored earlier.
    AppState().model_restore_path = None
    texts = [text for _, text in pairs]
    with tempfile.TemporaryDirectory() as scratch:
        model = EncDecMultiTaskModel(cfg=configuration(style, texts, Path(scratch)))
        _Training(model, pairs, np.random.default_rng(seed)).run(steps)
        whole = Path(scratch) / "model.nemo"
        model.eval().save_to(str(whole))  # it copies the tokenizers' files from `scratch`
        shutil.move(whole, out)


class _Training:
    """The optimisation of one model.

    The decoder alone learns slowly to attend to the encoder: at first it gains more from learning
    the sentences by heart. A CTC head on the encoder, thrown away afterwards, makes the encoder
    spell from the first steps on; it saves three quarters of the training (Kim et al., Joint
    CTC-attention, ICASSP 2017).
    """

    def __init__(
        self,
        model: EncDecMultiTaskModel,
        pairs: Sequence[tuple[NDArray[np.float32], str]],
        rng: np.random.Generator,
    ) -> None:
        self.model, self.rng = model, rng
        self.dialogs = [_dialog(model, text) for _, text in pairs]
        # The same prompt length everywhere.
        self.prompt = len(self.dialogs[0]["context_ids"])
        self.features = [[self._mel(audio, speed) for audio, _ in pairs] for speed in SPEEDS]
        self.blank = model.tokenizer.vocab_size
        self.ctc_head = nn.Linear(SIZE, self.blank + 1)

    def run(self, steps: int) -> None:
        parameters = [*self.model.parameters(), *self.ctc_head.parameters()]
        optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, (0.9, 0.98), weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: (
                min((step + 1) / WARMUP, 1) * (0.51 + 0.49 * math.cos(math.pi * step / steps))
            ),
        )
        self.model.train()
        for _, batch in zip(range(steps), self._batches(), strict=False):
            loss = self._loss(batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        self._settle_batch_norm()

    @torch.no_grad()
    def _mel(self, audio: NDArray[np.float32], speed: float) -> Tensor:
        """Normalised log mel features, shape (frames, MELS)."""
        if speed != 1.0:
            audio = soxr.resample(audio, SAMPLE_RATE * speed, SAMPLE_RATE)
        features, length = self.model.preprocessor(
            input_signal=torch.from_numpy(audio)[None], length=torch.tensor([len(audio)])
        )
        return features[0, :, : length[0]].T

    def _batches(self) -> Iterator[list[tuple[int, int]]]:
        """Endless batches of (speed, utterance), of like length."""
        n = len(self.dialogs)
        while True:
            speeds = self.rng.integers(len(SPEEDS), size=n)
            lengths = [len(self.features[speed][row]) for row, speed in enumerate(speeds)]
            order = np.argsort(lengths + self.rng.uniform(0, LENGTH_JITTER, n))
            batches = [order[first : first + BATCH] for first in range(0, n, BATCH)]
            for number in self.rng.permutation(len(batches)):
                yield [(int(speeds[row]), int(row)) for row in batches[number]]

    def _inputs(self, batch: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Features (batch, MELS, frames) and their lengths."""
        features = [self.features[speed][row] for speed, row in batch]
        lengths = torch.tensor([len(item) for item in features])
        return pad_sequence(features, batch_first=True).transpose(1, 2).contiguous(), lengths

    def _blank_some(self, inputs: Tensor, lengths: Tensor) -> None:
        for item, length in zip(inputs, lengths.tolist(), strict=True):
            frames, bands = self.rng.integers(FRAMES_BLANKED), self.rng.integers(BANDS_BLANKED)
            frame = self.rng.integers(max(1, length - FRAMES_BLANKED))
            band = self.rng.integers(MELS - BANDS_BLANKED)
            item[:, frame : frame + frames] = 0
            item[band : band + bands] = 0

    def _loss(self, batch: list[tuple[int, int]]) -> Tensor:
        inputs, lengths = self._inputs(batch)
        self._blank_some(inputs, lengths)
        dialogs = [self.dialogs[row] for _, row in batch]
        tokens = pad_sequence(
            [dialog["input_ids"] for dialog in dialogs],
            batch_first=True,
            padding_value=self.model.tokenizer.pad_id,
        )
        token_lengths = torch.tensor([len(dialog["input_ids"]) - 1 for dialog in dialogs])
        log_probs, encoded_lengths, encoded, _ = self.model(
            processed_signal=inputs,
            processed_signal_length=lengths,
            transcript=tokens[:, :-1],
            transcript_length=token_lengths,
        )
        place = torch.arange(tokens.shape[1] - 1)
        said = (place < token_lengths[:, None]) & (place >= self.prompt - 1)
        attention = self.model.loss(log_probs=log_probs, labels=tokens[:, 1:], output_mask=said)
        spelling = ctc_loss(
            self.ctc_head(encoded).log_softmax(dim=-1).transpose(0, 1),
            torch.cat([dialog["answer_ids"][:-1] for dialog in dialogs]),
            encoded_lengths,
            token_lengths - self.prompt,
            blank=self.blank,
            zero_infinity=True,  # some sentences have more pieces than frames
        )
        return attention + spelling

    @torch.no_grad()
    def _settle_batch_norm(self) -> None:
        """Replace running statistics, which lag in so short a training, by those of clean audio."""
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm1d)]
        momentum = norms[0].momentum
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
        rows = sorted(range(len(self.dialogs)), key=lambda row: len(self.features[0][row]))
        for first in range(0, len(rows), BATCH):
            inputs, lengths = self._inputs([(0, row) for row in rows[first : first + BATCH]])
            self.model(processed_signal=inputs, processed_signal_length=lengths)
        for norm in norms:
            norm.momentum = momentum


def _dialog(model: EncDecMultiTaskModel, text: str) -> dict[str, Tensor]:
    """Token ids of prompt (`context_ids`), text (`answer_ids`) and both, by the model's formatter."""
    formatter = model.prompt
    # The language says which of an aggregate's tokenizers to use; a single one does not heed it.
    answer = {"text": text, formatter.PROMPT_LANGUAGE_SLOT: "en"}
    return formatter.encode_dialog(
        [*formatter.get_default_dialog_slots(), {"role": formatter.OUTPUT_ROLE, "slots": answer}]
    )
