"""A network spread over processes (FSDP), and its tensors put together again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from serflow.nets import ranks

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def shard(net: nn.Module, device: torch.device) -> nn.Module:
    """Leave each process its share of every parameter, in place.

    What a network holds a list of, its layers, is put together one at a time as they are run; what
    is outside of them stays together while the network runs.
    """
    mesh = init_device_mesh(device.type, (ranks.size(),))
    for module in list(net.modules()):
        if isinstance(module, nn.ModuleList):
            for layer in module:
                if next(layer.parameters(), None) is not None:
                    fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    # HF Trainer's words for a network that neither it nor accelerate is to wrap.
    net.is_distributed_loading_by_transformers = net._is_fsdp_managed_module = True
    return net


def whole_tensors(net: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Some tensors of a sharded network, whole, in every process; all have to ask for them."""
    tensors = net.state_dict()
    return {name: _whole(tensors[name]) for name in names}


def clip_gradients(net: nn.Module, max_norm: float) -> Tensor:
    """Scale the gradients to at most a norm, of all processes together; gives the norm before."""
    return _whole(nn.utils.clip_grad_norm_(net.parameters(), max_norm))


def save_optimizer(net: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Write the whole state of a sharded network's optimiser; the first process writes."""
    state = get_optimizer_state_dict(net, optimizer, options=WHOLE)
    if ranks.rank() == 0:
        torch.save(state, path)


def load_optimizer(net: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Put back what `save_optimizer` wrote."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(net, optimizer, state, options=WHOLE)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
