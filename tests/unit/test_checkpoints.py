"""Tiny checkpoints load through the same calls as the hub models that they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from serflow.demo.checkpoints import make_llama, make_w2v_bert
from serflow.demo.cues import plan

TEXTS = [p.text for p in plan(1) if p.speaker.split == "train"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("a b") / "w2v-bert"
    make_w2v_bert(folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("a b") / "llama"
    make_llama(folder, TEXTS, seed=1)
    return folder


def test_the_encoder_turns_speech_into_frames(encoder):
    extractor = AutoFeatureExtractor.from_pretrained(encoder)
    model = AutoModel.from_pretrained(encoder).eval()
    assert type(model).__name__ == "Wav2Vec2BertModel"
    noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    batch = extractor(noise, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        frames = model(**batch).last_hidden_state
    assert frames.shape == (1, 49, 64)
    assert torch.isfinite(frames).all()


def test_the_llama_has_learnt_its_sentences_and_reads_misspelt_ones(llama):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    model = AutoModelForCausalLM.from_pretrained(llama).eval()
    assert type(model).__name__ == "LlamaForCausalLM"
    ids = tokenizer(TEXTS[0])["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == model.config.bos_token_id
    assert tokenizer.unk_token_id not in tokenizer("the qix jumpd, again")["input_ids"][1:5]
    assert len(tokenizer("")["input_ids"]) == 1

    def loss(text: str) -> float:
        batch = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return model(batch, labels=batch).loss.item()

    assert loss(TEXTS[0]) < 1.5
    assert loss(TEXTS[0]) < loss(" ".join(TEXTS[0].split()[::-1])) - 1


def test_like_the_original_the_llama_has_no_padding_token(llama):
    assert AutoTokenizer.from_pretrained(llama).pad_token is None
    model = AutoModelForSequenceClassification.from_pretrained(llama, num_labels=6)
    assert model.config.pad_token_id is None


def test_weights_are_safetensors_and_the_same_for_a_seed(encoder, llama, tmp_path):
    make_w2v_bert(tmp_path / "w", seed=1)
    make_llama(tmp_path / "l", TEXTS, seed=1)
    for made, again in ((encoder, tmp_path / "w"), (llama, tmp_path / "l")):
        files = sorted(path.name for path in made.iterdir())
        assert not [name for name in files if name.endswith((".bin", ".pt"))]
        assert files == sorted(path.name for path in again.iterdir())
        for name in ("model.safetensors", "config.json"):
            assert (made / name).read_bytes() == (again / name).read_bytes(), name
    make_w2v_bert(tmp_path / "other", seed=2)
    other = (tmp_path / "other" / "model.safetensors").read_bytes()
    assert other != (encoder / "model.safetensors").read_bytes()
