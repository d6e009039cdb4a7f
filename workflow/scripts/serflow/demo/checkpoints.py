"""Tiny checkpoints of the classes that papers name on the hub, saved as the hub has them.

They stand where nothing can be downloaded; the systems load them by the same calls as the originals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
)

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
VOCABULARY = 160
PRETRAINING_STEPS, BATCH, LEARNING_RATE = 120, 32, 3e-3


def make_w2v_bert(folder: str | Path, seed: int) -> None:
    """Save a Wav2Vec2-BERT with random weights, and its feature extractor.

    Two layers of dimension 64 instead of w2v-bert-2.0's 24 of 1024; everything else as there.

    Parameters
    ----------
    folder : path
        Created if need be.
    seed : int
    """
    torch.manual_seed(seed)
    config = Wav2Vec2BertConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_depthwise_kernel_size=15,
        output_hidden_size=64,
        hidden_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
    )
    Wav2Vec2BertModel(config).save_pretrained(folder)
    # Two frames of 80 mel bands stacked: the 160 inputs that the configuration expects.
    SeamlessM4TFeatureExtractor(
        feature_size=80, num_mel_bins=80, sampling_rate=16_000, stride=2
    ).save_pretrained(folder)


def make_llama(folder: str | Path, texts: Sequence[str], seed: int) -> None:
    """Save a small LLaMA, pretrained on `texts` for a few seconds, and its tokenizer.

    As with the original there is no padding token.

    Parameters
    ----------
    folder : path
        Created if need be.
    texts : sequence of str
        Training data of the tokenizer and of the language model.
    seed : int
    """
    torch.manual_seed(seed)
    tokenizer = _train_tokenizer(texts)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=None,
        )
    )
    _pretrain(model, [tokenizer(text + END)["input_ids"] for text in texts])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(BPE(unk_token=UNKNOWN))
    backend.pre_tokenizer = Metaspace()
    # Every letter has a piece: recognised words may be spelt as no training text is.
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[UNKNOWN, BEGIN, END],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz'"),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, backend.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token=UNKNOWN, bos_token=BEGIN, eos_token=END
    )


def _pretrain(model: LlamaForCausalLM, ids: list[list[int]]) -> None:
    """Predict the next token of every text."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    longest = max(map(len, ids))
    inputs = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    lengths = torch.tensor([len(row) for row in ids])
    mask = torch.arange(longest) < lengths.unsqueeze(1)
    labels = inputs.masked_fill(~mask, -100)
    model.train()
    for _ in range(PRETRAINING_STEPS):
        rows = torch.randint(len(ids), (BATCH,))
        loss = model(inputs[rows], attention_mask=mask[rows], labels=labels[rows]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
