"""A tiny Canary that really transcribes: NVIDIA's classes and prompts in a `.nemo` file of 1.5 MB.

Prompt format and tokenizers are those of nvidia/canary-1b: special tokens, and a SentencePiece model
for each language, in one aggregate. Trained in seconds on the sentences of a closed vocabulary, it
stands where the hub model cannot be downloaded.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import ctc_loss
from torch.nn.utils.rnn import pad_sequence

from serflow.asr.canary import prompt_slots  # first: it quiets NeMo
from serflow.audio import SAMPLE_RATE

from nemo.collections.asr.models import EncDecMultiTaskModel  # isort: skip
from nemo.utils.app_state import AppState  # isort: skip
from omegaconf import DictConfig, OmegaConf  # isort: skip

LANGUAGES = ("en", "de", "es", "fr")
SPECIAL = (
    "<|nospeech|>",
    "<pad>",
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|pnc|>",
    "<|nopnc|>",
    "<|translate|>",
    "<|transcribe|>",
    *(f"<|{language}|>" for language in LANGUAGES),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz '"
PIECES = 64  # of a language's tokenizer

SIZE, LAYERS, HEADS, CHANNELS, MELS = 64, 2, 4, 24, 40

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
    """
    torch.manual_seed(seed)
    # NeMo would look for parts of a model that this process restored earlier.
    AppState().model_restore_path = None
    texts = [text for _, text in pairs]
    with tempfile.TemporaryDirectory() as scratch:
        model = EncDecMultiTaskModel(cfg=_configuration(_tokenizers(Path(scratch), texts)))
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
    language = formatter.PROMPT_LANGUAGE_SLOT  # which of the aggregate's tokenizers
    slots = prompt_slots(model.prompt_format, "en", pnc=False)
    return formatter.encode_dialog(
        [
            {"role": "user", "slots": {**slots, language: "spl_tokens"}},
            {"role": formatter.OUTPUT_ROLE, "slots": {"text": text, language: "en"}},
        ]
    )


def _tokenizers(folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    special = _train_pieces(folder / "special", SPECIAL, len(SPECIAL) + 2, "unigram", SPECIAL)
    english = _train_pieces(folder / "english", [*texts, LETTERS], PIECES, "bpe")
    return {
        "dir": None,
        "type": "agg",
        # One set of pieces, but a range of ids for each language.
        "langs": {"spl_tokens": special, **{name: dict(english) for name in LANGUAGES}},
        "custom_tokenizer": {
            "_target_": "nemo.collections.common.tokenizers.canary_tokenizer.CanaryTokenizer",
            "tokenizers": None,
        },
    }


def _train_pieces(
    folder: Path, lines: Sequence[str], size: int, kind: str, symbols: Sequence[str] = ()
) -> dict[str, str]:
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=size,
        model_type=kind,
        user_defined_symbols=list(symbols),
        character_coverage=1.0,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",  # the default table adds 240 kB
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    names = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    (folder / "vocab.txt").write_text("\n".join(names), encoding="utf-8")
    return {"dir": str(folder), "type": "bpe"}


def _configuration(tokenizer: dict[str, Any]) -> DictConfig:
    """canary-1b's configuration at a small size, without dropout."""
    modules = "nemo.collections.asr.modules"
    no_dropout = {"ffn_dropout": 0.0, "attn_score_dropout": 0.0, "attn_layer_dropout": 0.0}
    slots = prompt_slots("canary", "en", pnc=False)
    return OmegaConf.create(
        {
            "prompt_format": "canary",
            "prompt_defaults": [{"role": "user", "slots": slots}],
            "sample_rate": SAMPLE_RATE,
            "label_smoothing": 0.0,
            "use_loss_mask_for_prompt": True,
            "tokenizer": tokenizer,
            "model_defaults": {
                "asr_enc_hidden": SIZE,
                "lm_enc_hidden": SIZE,
                "lm_dec_hidden": SIZE,
            },
            "preprocessor": {
                "_target_": f"{modules}.AudioToMelSpectrogramPreprocessor",
                "sample_rate": SAMPLE_RATE,
                "normalize": "per_feature",
                "window_size": 0.025,
                "window_stride": 0.01,
                "window": "hann",
                "features": MELS,
                "n_fft": 512,
                "log": True,
                "frame_splicing": 1,
                "dither": 0.0,
                "pad_to": 0,
                "pad_value": 0.0,
            },
            "spec_augment": None,
            "encoder": {
                "_target_": f"{modules}.ConformerEncoder",
                "feat_in": MELS,
                "feat_out": -1,
                "n_layers": LAYERS,
                "d_model": SIZE,
                "subsampling": "dw_striding",
                "subsampling_factor": 8,
                "subsampling_conv_channels": CHANNELS,
                "causal_downsampling": False,
                "ff_expansion_factor": 4,
                "self_attention_model": "rel_pos",
                "n_heads": HEADS,
                "att_context_size": [-1, -1],
                "xscaling": False,
                "untie_biases": True,
                "pos_emb_max_len": 5000,
                "conv_kernel_size": 9,
                "conv_norm_type": "batch_norm",
                "dropout": 0.0,
                "dropout_pre_encoder": 0.0,
                "dropout_emb": 0.0,
                "dropout_att": 0.0,
            },
            "transf_encoder": {
                "_target_": f"{modules}.transformer.transformer_encoders.TransformerEncoder",
                "num_layers": 0,
                "hidden_size": SIZE,
                "inner_size": 4 * SIZE,
                "num_attention_heads": HEADS,
                "mask_future": False,
                "pre_ln": True,
                "pre_ln_final_layer_norm": True,
                **no_dropout,
            },
            "transf_decoder": {
                "_target_": f"{modules}.transformer.get_nemo_transformer",
                "model_name": None,
                "pretrained": False,
                "encoder": None,
                "pre_ln_final_layer_norm": True,
                "config_dict": {
                    "max_sequence_length": 128,
                    "num_token_types": 0,
                    "embedding_dropout": 0.0,
                    "learn_positional_encodings": False,
                    "hidden_size": SIZE,
                    "inner_size": 4 * SIZE,
                    "num_layers": 1,
                    "num_attention_heads": HEADS,
                    "hidden_act": "relu",
                    "pre_ln": True,
                    "vocab_size": None,
                    **no_dropout,
                },
            },
            "head": {
                "_target_": "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier",
                "num_layers": 1,
                "activation": "relu",
                "log_softmax": True,
                "hidden_size": SIZE,
                "num_classes": None,
                "dropout": 0.0,
                "use_transformer_init": True,
            },
            "decoding": {  # as released
                "strategy": "beam",
                "return_best_hypothesis": True,
                "beam": {"beam_size": 1, "len_pen": 0.0, "max_generation_delta": 50},
            },
            "loss": {
                "_target_": (
                    "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss"
                ),
                "label_smoothing": 0.0,
                "pad_id": None,
            },
            "optim": {"name": "adamw", "lr": 1e-3},
        }
    )
