"""A tiny Whisper that really transcribes a dozen utterances: transformers' classes and prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

LANGUAGES = ("en", "de")
SECONDS, MELS, SIZE = 2, 32, 48
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def make_whisper(pairs: Sequence[tuple[np.ndarray, str]], folder: Path, steps: int = 160) -> None:
    """Train on (samples, text) and save model, tokenizer and feature extractor."""
    torch.manual_seed(1)
    tokenizer = _tokenizer(folder, [text for _, text in pairs])
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    extractor = WhisperFeatureExtractor(feature_size=MELS, chunk_length=SECONDS)
    end = ids["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=MELS, max_source_positions=50 * SECONDS,
        d_model=SIZE, encoder_layers=1, decoder_layers=1, max_target_positions=64,
        encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=4 * SIZE, decoder_ffn_dim=4 * SIZE,
        pad_token_id=end, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"], suppress_tokens=[],
        begin_suppress_tokens=[],
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    prompt = [
        ids[t] for t in ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
    ]
    features = extractor(
        [samples for samples, _ in pairs], sampling_rate=16_000, return_tensors="pt"
    ).input_features
    rows = [prompt + tokenizer.encode(text, add_special_tokens=False) + [end] for _, text in pairs]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [end] * (width - len(row)) for row in rows])
    labels = tokens[:, 1:].clone()
    for row, label in zip(rows, labels, strict=True):
        label[: len(prompt) - 1] = -100
        label[len(row) - 1 :] = -100
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for _ in range(steps):
        loss = model(input_features=features, decoder_input_ids=tokens[:, :-1], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": ids[f"<|{language}|>"] for language in LANGUAGES},
        task_to_id={task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        decoder_start_token_id=prompt[0],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=64,
    )
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)


def _tokenizer(folder: Path, texts: Sequence[str]) -> WhisperTokenizer:
    """Bytes as pieces, and the special tokens in Whisper's order."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = {piece: i for i, piece in enumerate(bytes_to_unicode().values())}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.save_pretrained(folder)
    return tokenizer
