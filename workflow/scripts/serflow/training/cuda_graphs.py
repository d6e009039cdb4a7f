"""Training steps recorded as CUDA graphs, one for each shape of a batch, and replayed.

A fast GPU is done with the thousands of kernels of a small batch sooner than Python has launched them.
A graph launches them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
# Forward and backward pass of a batch and the examples of its effective batch; gives the loss.
Step = Callable[[Batch, int], Tensor]


class Replays:
    """Runs a step as it is at the first batch of a shape, records it at the second, replays it then.

    The step must do the same for all batches of a shape, and never wait for the GPU. Gradients are
    added to those that are there: they have to be set to zero in place, as a graph knows addresses.

    Parameters
    ----------
    step : callable
        Forward and backward pass of a batch, and the examples of its effective batch; gives the loss.
    parameters : iterable of nn.Parameter
        Those that the step finds gradients of.
    """

    def __init__(self, step: Step, parameters: Iterable[nn.Parameter]) -> None:
        self._step = step
        self._parameters = list(parameters)
        self._met: set[Hashable] = set()
        self._recordings: dict[Hashable, _Recording] = {}
        # Shared: what a graph leaves there is never read by another.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: Batch, n_items: int) -> Tensor:
        """The loss; arguments as for `step`."""
        shape = (n_items, *((name, tensor.shape) for name, tensor in batch.items()))
        if shape not in self._met:
            # Libraries choose and load their kernels for a shape now, which cannot be recorded.
            self._met.add(shape)
            return self._step(batch, n_items)
        if shape not in self._recordings:
            self._recordings[shape] = _Recording(
                partial(added, self._step, self._parameters), batch, n_items, self._pool
            )
        return self._recordings[shape](batch)


def added(step: Step, parameters: list[nn.Parameter], batch: Batch, n_items: int) -> Tensor:
    """Run `step`, and add its gradients to those that are there all at once.

    torch adds them one by one: hundreds of small kernels.
    """
    there = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    loss = step(batch, n_items)
    pairs = [
        (old, parameter.grad)
        for old, parameter in zip(there, parameters, strict=True)
        if old is not None and parameter.grad is not None
    ]
    torch._foreach_add_([old for old, _ in pairs], [new for _, new in pairs])
    for old, parameter in zip(there, parameters, strict=True):
        if old is not None:
            parameter.grad = old
    return loss


def set_to_zero(parameters: list[nn.Parameter]) -> None:
    """Set the gradients that are there to zero, in place and all at once."""
    there = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if there:
        torch._foreach_zero_(there)


class _Recording:
    def __init__(self, step: Step, batch: Batch, n_items: int, pool: Any) -> None:
        self._inputs = {name: tensor.clone() for name, tensor in batch.items()}
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on meanwhile: one pins batches to come.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._loss = step(dict(self._inputs), n_items)

    def __call__(self, batch: Batch) -> Tensor:
        for name, tensor in batch.items():
            self._inputs[name].copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._loss.clone()
