"""Training steps recorded as CUDA graphs, one for each shape of a batch, and replayed.

A fast GPU is done with the thousands of kernels of a small batch sooner than Python has launched them.
A graph launches them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

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
    """

    def __init__(self, step: Step) -> None:
        self._step = step
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
            self._recordings[shape] = _Recording(self._step, batch, n_items, self._pool)
        return self._recordings[shape](batch)


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
