"""How much of a backbone is trained: all of it, low-rank updates, adapters, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from serflow.errors import UserError

Adaptation = Literal["full", "lora", "adapters", "frozen"]


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


class Bottleneck(nn.Module):
    """x + W2 relu(W1 layer_norm(x)), which starts as the identity: W2 and its bias are zero.

    The same as transformers' adapters for the layer-norm form of wav2vec2
    (`Wav2Vec2Config.adapter_attn_dim`), which no other encoder has.

    Parameters
    ----------
    hidden_size : int
        Dimension of a frame.
    size : int
        Dimension of the bottleneck.

    References
    ----------
    Houlsby et al., Parameter-efficient transfer learning for NLP (2019), section 2.1, with the one
    adapter per layer, after the feed-forward part, of Bapna and Firat (2019),
    https://arxiv.org/abs/1909.08478.
    """

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.linear_1 = nn.Linear(hidden_size, size)
        self.linear_2 = nn.Linear(size, hidden_size)
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Adapt frames of shape (batch, time, hidden_size)."""
        return frames + self.linear_2(self.linear_1(self.norm(frames)).relu())


@dataclass(frozen=True)
class Adapters:
    """One `Bottleneck` after every encoder layer.

    Attributes
    ----------
    size : int
        Dimension of the bottlenecks.
    """

    size: int


def adapt(
    backbone: PreTrainedModel,
    adaptation: Adaptation,
    lora: Lora | None = None,
    adapters: Adapters | None = None,
) -> nn.Module:
    """Choose the trainable parameters of `backbone`.

    What is added goes into the backbone alone, so pooling and heads outside it need no
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
    if adaptation == "adapters":
        assert adapters is not None, "the settings type guarantees them with adaptation 'adapters'"
        backbone.requires_grad_(False)
        for layer in encoder_layers(backbone):
            layer.bottleneck = Bottleneck(backbone.config.hidden_size, adapters.size)
            layer.register_forward_hook(_through_bottleneck)
        return backbone
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


def encoder_layers(backbone: nn.Module) -> nn.ModuleList:
    """The transformer or conformer layers of a speech encoder, first to last."""
    return getattr(backbone, "encoder", backbone).layers


def _through_bottleneck(layer: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    """Forward hook: what follows the layer, recorded hidden states too, sees adapted frames.

    A hook, as a wrapper would rename the pretrained weights. Hooks run outside of gradient
    checkpointing (`GradientCheckpointingLayer`), once per step. Some layers return their attention
    weights or position biases as well.
    """
    if isinstance(output, tuple):
        return (layer.bottleneck(output[0]), *output[1:])
    return layer.bottleneck(output)
