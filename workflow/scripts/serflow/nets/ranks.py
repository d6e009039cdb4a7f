"""The processes that train one network together, one for each GPU; alone, everything here does nothing.

A batch is dealt out row by row, and each process computes the loss of the whole batch from
everybody's outputs: what is not a mean over rows (concordance, class weights) is the same as in one
process.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from serflow.errors import UserError
from serflow.launch import MEETING

# Longer than scoring and saving take, of which others may have less to do.
PATIENCE = timedelta(hours=1)


def join() -> None:
    """Meet the other processes, if the job has several; each takes a GPU of its own.

    Raises
    ------
    UserError
        There are fewer GPUs than processes.
    """
    if MEETING not in os.environ or dist.is_initialized():
        return
    number, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "gloo"
    if torch.cuda.is_available():
        found = torch.cuda.device_count()
        if found < processes:
            raise UserError(
                f"the system asks for {processes} GPUs (`gpus`), and {found} are visible to the job "
                f"(CUDA_VISIBLE_DEVICES is {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}); "
                "give it as many, or lower `gpus` in the study"
            )
        torch.cuda.set_device(number)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend,
        init_method=f"file://{os.environ[MEETING]}",
        rank=number,
        world_size=processes,
        timeout=PATIENCE,
    )
    atexit.register(dist.destroy_process_group)


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this one, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait() -> None:
    """Go on when all have come here."""
    if size() > 1:
        dist.barrier()


def anyone(flag: bool) -> bool:
    """Whether it is so in any process."""
    if size() == 1:
        return flag
    found = torch.tensor(int(flag))
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def first_given(found: Any) -> Any:
    """What the processes have found, by the first of them for which it is not None."""
    if size() == 1:
        return found
    of_all = [None] * size()
    dist.all_gather_object(of_all, found)
    return next((one for one in of_all if one is not None), None)


def from_first(function: Callable[[], Any]) -> Any:
    """What a function gives in the first process; it is called there alone."""
    if size() == 1:
        return function()
    found = [function() if rank() == 0 else None]
    dist.broadcast_object_list(found)
    return found[0]


def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over all processes."""
    if size() == 1:
        return values
    total = torch.from_numpy(values)
    dist.all_reduce(total)
    return total.numpy()


def share(rows: Sequence[Any]) -> Sequence[Any]:
    """The rows of a batch that are this process's: every n-th, as neighbours are of like length."""
    return rows[rank() :: size()]


def dealt(rows: Sequence[Any]) -> list[Any]:
    """All rows of a batch, in the order in which `gathered` has them."""
    return [row for number in range(size()) for row in rows[number :: size()]]


def gathered(outputs: Tensor, n_rows: int) -> Tensor:
    """Everybody's outputs for a batch; those of this process alone have a gradient.

    The gradients of the processes are averaged in the end, so each counts `size` times.

    Parameters
    ----------
    outputs : Tensor of float, shape (rows of this process, n)
    n_rows : int
        Of the whole batch.

    Returns
    -------
    Tensor of float, shape (n_rows, n)
        In the order of `dealt`.
    """
    n = size()
    if n == 1:
        return outputs
    outputs = outputs.contiguous()
    # Only of like shape: the last rows are nobody's.
    mine = outputs.new_zeros(-(-n_rows // n), outputs.shape[1])
    mine[: len(outputs)] = outputs.detach()
    parts = [torch.empty_like(mine) for _ in range(n)]
    dist.all_gather(parts, mine)
    rows = [part[: len(range(number, n_rows, n))] for number, part in enumerate(parts)]
    if outputs.requires_grad:
        outputs.register_hook(lambda gradient: gradient * n)
    rows[rank()] = outputs
    return torch.cat(rows)


def share_batch_statistics(net: nn.Module) -> None:
    """Have every batch normalisation of a network take its statistics of the whole batch.

    torch's own SyncBatchNorm does not run on CPU.
    """
    for module in net.modules():
        if type(module) is nn.BatchNorm1d and size() > 1:
            module.__class__ = _SharedBatchNorm


class _SharedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the rows of all processes; the same parameters and buffers."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return super().forward(values)
        axes = [axis for axis in range(values.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(values.dim())]
        x = values.float()
        n = _Sum.apply(x.new_tensor(x.numel() / x.shape[1]))
        mean = _Sum.apply(x.sum(axes)) / n
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        return normal * self.weight.view(shape) + self.bias.view(shape)


class _Sum(torch.autograd.Function):
    """Sum over the processes, in both directions."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient
