"""What networks are trained to make small."""

from __future__ import annotations

import torch
from torch import Tensor

# In squared units of a scale of [-1, 1]: keeps a batch without any spread from dividing by zero.
EPSILON = 1e-8


def concordance_loss(predicted: Tensor, reference: Tensor) -> Tensor:
    """Negative mean concordance correlation coefficient of a batch.

    Parameters
    ----------
    predicted : Tensor of float, shape (batch, n_attributes)
    reference : Tensor of float, shape (batch, n_attributes)
        NaN where an utterance has no reference; it then does not count for that attribute.

    Returns
    -------
    Tensor of float32, scalar
        In [-1, 1]; -1 is full agreement. Population variances, over this batch alone: the
        coefficient of a batch is not the mean of those of its parts.

    References
    ----------
    TalTech, Odyssey 2024, section 3.1: "negative average CCC of the current batch".
    """
    predicted, reference = predicted.float(), reference.float()
    known = ~reference.isnan()
    n = known.sum(dim=0).clamp(min=1)
    x, y = reference.nan_to_num(), predicted

    def mean(values: Tensor) -> Tensor:
        return (values * known).sum(dim=0) / n

    mean_x, mean_y = mean(x), mean(y)
    x, y = x - mean_x, y - mean_y
    spread = mean(x * x) + mean(y * y) + (mean_x - mean_y) ** 2
    return -(2 * mean(x * y) / (spread + EPSILON)).mean()


def squared_error_loss(predicted: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error over what has a reference; arguments as above."""
    known = ~reference.isnan()
    errors = (predicted.float() - reference.float().nan_to_num()) ** 2
    return (errors * known).sum() / known.sum().clamp(min=1)


ATTRIBUTE_LOSSES = {"ccc": concordance_loss, "mse": squared_error_loss}


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor | None, n_items: Tensor | int
) -> Tensor:
    """Cross-entropy summed over a batch, divided by the examples of the effective batch.

    torch's own weighted mean divides by the weights that a batch happens to hold, which makes an
    example's weight depend on its neighbours and the effective prior unknown.

    Parameters
    ----------
    logits : Tensor of float, shape (batch, n_classes)
    labels : Tensor of int64, shape (batch,)
    weight : Tensor of float32, shape (n_classes,), optional
        Of each class.
    n_items : int
        Examples of all batches of the optimiser's step.
    """
    total = torch.nn.functional.cross_entropy(
        logits.float(), labels, weight=weight, reduction="sum"
    )
    return total / n_items
