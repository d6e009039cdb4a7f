"""What a network says of utterances: in batches of like length, whoever else is in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serflow.batching import Draw, alike
from serflow.nets import ranks
from serflow.training.interface import Inputs


@torch.no_grad()
def outputs(
    net: nn.Module,
    function: Callable[..., Tensor],
    inputs: Inputs,
    batch_size: int,
    bf16: bool = False,
) -> NDArray[np.float64]:
    """What a network, or a part of it, says of all inputs, in their order.

    Several processes share the batches, and each is given all outputs.

    Parameters
    ----------
    net : nn.Module
        Set to evaluation mode.
    function : callable
        From a batch to a tensor of shape (batch, size): the network itself, or a method of it.
    inputs : Inputs
    batch_size : int
        At most so many. Batches are of like length; they do not change the result beyond rounding.
    bf16 : bool
        Run matrix products in bfloat16, as in training on a GPU.

    Returns
    -------
    ndarray of float64, shape (n, size)
    """
    net.eval()
    where = next(net.parameters()).device
    draws = [Draw(0, i, i) for i in range(len(inputs))]
    batches = alike(inputs.lengths(draws), batch_size)
    rows: NDArray[np.float64] | None = None
    # The last processes may be left without a batch: they count the columns on the first one.
    for chosen in ranks.share(batches) or batches[:1]:
        batch = inputs.collate([inputs.item(draws[i]) for i in chosen])
        with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
            found = function(**{name: value.to(where) for name, value in batch.items()})
        if rows is None:
            rows = np.zeros((len(draws), found.shape[1]))
        rows[chosen] = found.double().cpu().numpy()
    if not ranks.share(batches):
        rows[:] = 0
    return ranks.summed(rows)
