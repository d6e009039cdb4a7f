"""How much of a backbone is trained: all of it, low-rank updates, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from serflow.errors import UserError

Adaptation = Literal["full", "lora", "frozen"]


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation: W + alpha / rank * B A on the named linear layers.

    Attributes
    ----------
    rank, alpha, dropout
        TalTech section 3.1: 32, 32, 0.05 (speech); section 3.2: 256, 256, 0.1 (LLaMA).
    target_modules : sequence of str
        Name endings of linear layers.
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: Sequence[str]


def adapt(backbone: PreTrainedModel, adaptation: Adaptation, lora: Lora | None = None) -> nn.Module:
    """Choose the trainable parameters of `backbone`.

    The adapters go into the backbone alone, so pooling and heads outside it need no
    `modules_to_save`: they simply stay trainable.

    Returns
    -------
    nn.Module
        The backbone itself, or the peft model around it.

    Raises
    ------
    UserError
        If no layer has the name of a LoRA target.
    """
    if adaptation == "full":
        return backbone
    if adaptation == "frozen":
        return backbone.requires_grad_(False)
    assert lora is not None, "the settings type guarantees lora settings with adaptation 'lora'"
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
    )
    linear = [name for name, part in backbone.named_modules() if isinstance(part, nn.Linear)]
    for target in config.target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            endings = sorted({name.rpartition(".")[2] for name in linear})
            raise UserError(
                f"lora.target_modules names '{target}', but no linear layer of "
                f"{type(backbone).__name__} ends in that; it has {', '.join(endings)}"
            )
    return get_peft_model(backbone, config)


def enable_gradient_checkpointing(backbone: nn.Module) -> None:
    """Recompute activations in the backward pass: less memory, about a third more time."""
    backbone.gradient_checkpointing_enable({"use_reentrant": False})
