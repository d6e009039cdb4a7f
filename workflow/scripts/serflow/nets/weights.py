"""What a trained network differs by from the one it started as: its trained tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

DIGEST_VALUES = 256


def trained_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and saved buffers (batch normalisation), by name.

    Frozen weights come back from their source, so a LoRA checkpoint of a 7B model stays small.
    """
    parameters = dict(net.named_parameters())

    def of_a_frozen_weight(name: str) -> bool:
        """The constants of a quantised weight, `<weight>.absmax` and so on."""
        layer, inside, _ = name.partition(".weight.")
        weight = parameters.get(f"{layer}.weight") if inside else None
        return weight is not None and not weight.requires_grad

    # A tied tensor is in the state dict under two names, and among the parameters under one.
    storages = {p.data_ptr() for p in parameters.values()}
    return {
        name: tensor
        for name, tensor in net.state_dict().items()
        if (
            parameters[name].requires_grad
            if name in parameters
            else tensor.data_ptr() not in storages and not of_a_frozen_weight(name)
        )
    }


def save_trained(net: nn.Module, path: Path) -> None:
    """Write the trained tensors as safetensors."""
    save_file({n: t.detach().contiguous() for n, t in trained_tensors(net).items()}, path)
    path.chmod(0o644)  # safetensors would keep it from the group


def load_trained(net: nn.Module, path: Path) -> None:
    """Put saved tensors back into a network that was built the same way.

    Raises
    ------
    ValueError
        If the names differ: the network was built with other settings.
    """
    tensors = load_file(path)
    expected = trained_tensors(net).keys()
    if tensors.keys() != expected:
        wrong = sorted(tensors.keys() ^ expected)
        raise ValueError(f"{path} holds other tensors than the network, first {wrong[0]}")
    net.load_state_dict(tensors, strict=False)


def parameter_counts(net: nn.Module) -> tuple[int, int]:
    """Trainable and total number of parameters; of a weight in four bits, what it stands for."""
    counts = [(_size(p), p.requires_grad) for p in net.parameters()]
    return sum(n for n, trained in counts if trained), sum(n for n, _ in counts)


def _size(parameter: nn.Parameter) -> int:
    stored = getattr(parameter, "quant_state", None)
    return parameter.numel() if stored is None else stored.shape.numel()


def digest(net: nn.Module) -> str:
    """Digest of names, shapes and a sample of the values of every tensor.

    A sample tells one initialisation or checkpoint from another without reading gigabytes.
    """
    state = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        state.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // DIGEST_VALUES)]
        state.update(sample.to("cpu", torch.float64).numpy().tobytes())
    return state.hexdigest()
