"""Compiling what a network repeats: its layers, one by one and in place, and its front end."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from serflow.nets.convolution import Strided

# Versions of one layer's code that torch keeps before it gives up and runs it plainly: layers of other
# shapes and classes share code, each with and without gradients, padding and dropout.
VERSIONS = 64


def compile_layers(model: nn.Module) -> None:
    """Compile the layers of a transformers model at their first pass, for batches of any size.

    Layers of one kind share their code, so that a deep model takes as long as a shallow one: seconds,
    where the model as a whole takes minutes. What is compiled is a layer's `forward`; hooks around it
    run as ever, and names in checkpoints do not change.

    Parameters
    ----------
    model : nn.Module
        The model, or a peft model around it.
    """
    torch._dynamo.config.recompile_limit = max(VERSIONS, torch._dynamo.config.recompile_limit)
    # Dropout as without the compiler, which draws four random numbers for each that it uses.
    torch._inductor.config.fallback_random = True
    compiled = list(_repeated(model))
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            maybe_install_capturing_hooks(part)
    for part in compiled:
        for inner in part.modules():
            if inner is not part:
                # transformers' hooks for attention maps, which nobody reads here, break the graphs.
                inner._forward_hooks.clear()
            if isinstance(inner, nn.Conv1d) and not isinstance(inner, Strided):
                # torch's compiler makes another version for every length that a convolution is given.
                inner.forward = torch.compiler.disable(inner.forward)
        part.forward = torch.compile(part.forward, dynamic=True)


def _repeated(model: nn.Module) -> Iterator[nn.Module]:
    """Layers of which there are several, and front ends."""
    for part in model.modules():
        for layers in part.children():
            if not isinstance(layers, nn.ModuleList) or len(layers) < 2:
                continue
            if all(isinstance(getattr(layer, "conv", None), Strided) for layer in layers):
                # As a whole: of what goes from layer to layer here, (batch, channels, time), torch's
                # compiler takes gradients to lie in memory in that order, which copies them all.
                yield part
            elif len(set(map(type, layers))) == 1:
                yield from layers
