"""Frozen weights in four bits, so that LLaMA-2 70B fits on one GPU of 80 GB.

References
----------
Dettmers et al., QLoRA: efficient finetuning of quantized LLMs (2023), section 3.
TalTech, Odyssey 2024, section 5: "4-bit quantization", nested, bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft import prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, PreTrainedModel

# Heads are trained, so they stay whole.
HEADS = ["score", "classifier", "lm_head"]


def loading_arguments() -> dict[str, Any]:
    """What `from_pretrained` is told: NF4, its constants quantised once more, products in bfloat16.

    On a GPU the weights go there one by one: whole, they would not fit. It is this process's own
    GPU, where several train together.
    """
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=HEADS,
    )
    place = {}
    if torch.cuda.is_available():
        place["device_map"] = {"": torch.cuda.current_device()}
    return {"quantization_config": config, "dtype": torch.bfloat16, **place}


def stabilise(model: PreTrainedModel) -> None:
    """Freeze everything; norms, embeddings and heads go to float32, as QLoRA trains."""
    prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX-512 BF16 a first prediction would pack the weights anew for good: it
            # refuses outputs that are no multiple of 32, and a resumed training has other bits.
            module.support_avx512bf16_for_cpu = False
