"""Compiling what a network repeats: its layers, one by one and in place."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from serflow.nets.convolution import Normed

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
    repeated = [layer for part in model.modules() if _repeats(part) for layer in part]
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            maybe_install_capturing_hooks(part)
        elif isinstance(part, Normed):
            # Its product is as good as it gets, and would fix the length.
            part.finish = torch.compile(part.finish, dynamic=True)
    for layer in repeated:
        for part in layer.modules():
            if part is not layer:
                # transformers' hooks for attention maps, which nobody reads here, break the graphs.
                part._forward_hooks.clear()
            if isinstance(part, nn.Conv1d):
                # torch's compiler makes another version for every length that a convolution is given.
                part.forward = torch.compiler.disable(part.forward)
        layer.forward = torch.compile(layer.forward, dynamic=True)


def _repeats(part: nn.Module) -> bool:
    """Whether it is a list of layers of one class, those of a front end left out."""
    if not isinstance(part, nn.ModuleList) or len(part) < 2 or len(set(map(type, part))) > 1:
        return False
    return not isinstance(part[0], Normed)
