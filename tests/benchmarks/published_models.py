"""Models of the published sizes with random weights: what building a network of them needs, on the disk."""

from __future__ import annotations

from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GemmaConfig,
    HubertConfig,
    LlamaConfig,
    PreTrainedConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

import tiny_models
from serflow.nets import quantisation
from serflow.training.setup import device

# facebook/hubert-large-ll60k and facebook/wav2vec2-xls-r-300m: their config.json on the hub.
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
ENCODERS: dict[str, PreTrainedConfig] = {
    "w2v-bert-2.0": Wav2Vec2BertConfig(),
    "hubert-large": HubertConfig(**LARGE),
    "xls-r-300m": Wav2Vec2Config(**LARGE),
}

# meta-llama/Llama-2-7b-hf, meta-llama/Llama-2-70b-hf and google/gemma-1.1-2b-it: their config.json on the hub.
LANGUAGE_MODELS: dict[str, PreTrainedConfig] = {
    "llama-2-7b": LlamaConfig(),
    "llama-2-70b": LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    ),
    "gemma-1.1-2b": GemmaConfig(
        hidden_size=2048,
        intermediate_size=16384,
        num_hidden_layers=18,
        num_attention_heads=8,
        num_key_value_heads=1,
        head_dim=256,
        vocab_size=256_000,
    ),
}


def write_model(name: str, folder: Path, tiny: bool) -> None:
    """Write what building a network with random weights needs."""
    if name in LANGUAGE_MODELS:
        config = LANGUAGE_MODELS[name]
        # A tokenizer, with the chat's turns where the model has them, and its first few words.
        {"llama": tiny_models.llama, "gemma": tiny_models.gemma}[config.model_type](folder)
        if name == "llama-2-70b":
            write_quantised(AutoConfig.from_pretrained(folder) if tiny else config, folder)
        elif not tiny:
            with torch.device(device()):
                model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
            model.save_pretrained(folder)
        return
    config = ENCODERS[name]
    stacked = config.model_type == "wav2vec2-bert"
    if tiny and stacked:
        tiny_models.w2v_bert(folder)
    elif tiny:
        tiny_models.conv_encoder(folder, config.model_type, "layer")
    else:
        config.save_pretrained(folder)
        extractor = (
            SeamlessM4TFeatureExtractor()
            if stacked
            else Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
        )
        extractor.save_pretrained(folder)


def write_quantised(config: PreTrainedConfig, folder: Path) -> None:
    """Write a causal model in 4 bits with random weights, drawn and quantised one matrix at a time."""
    where, deviation = device(), config.initializer_range
    settings = quantisation.loading_arguments()["quantization_config"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    linear = [
        (part, name, child)
        for part in model.modules()
        for name, child in part.named_children()
        if isinstance(child, nn.Linear) and name not in quantisation.HEADS
    ]
    for part, name, child in linear:
        drawn = torch.empty(child.weight.shape, dtype=torch.bfloat16, device=where)
        small = Linear4bit(
            child.in_features,
            child.out_features,
            bias=False,
            compute_dtype=settings.bnb_4bit_compute_dtype,
            compress_statistics=settings.bnb_4bit_use_double_quant,
            quant_type=settings.bnb_4bit_quant_type,
        )
        small.weight = Params4bit(
            drawn.normal_(std=deviation),
            requires_grad=False,
            compress_statistics=settings.bnb_4bit_use_double_quant,
            quant_type=settings.bnb_4bit_quant_type,
            module=small,
        )
        setattr(part, name, small.to(where))
    for part in model.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            if weight.is_meta:
                drawn = torch.empty(weight.shape, dtype=torch.bfloat16, device=where)
                norm = weight.ndim == 1
                drawn = drawn.fill_(1.0) if norm else drawn.normal_(std=deviation)
                setattr(part, name, nn.Parameter(drawn, requires_grad=False))
    model.config.quantization_config = settings
    model.save_pretrained(folder)
