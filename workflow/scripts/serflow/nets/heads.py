"""The heads on top of the pooled vector."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Outputs(nn.Module):
    """Output layers: logits of the classes, then attributes, either or both.

    Parameters
    ----------
    hidden : int
    n_classes : int
        0: no categories.
    n_attributes : int
        0: no attributes.

    References
    ----------
    TalTech, Odyssey 2024, section 3.1, on attributes: "replaced the final softmax layer with a tanh
    nonlinearity, followed by an additional linear layer with three outputs".
    """

    def __init__(self, hidden: int, n_classes: int, n_attributes: int = 0) -> None:
        super().__init__()
        if n_classes + n_attributes < 1:
            raise ValueError("a head needs classes or attributes; it has neither")
        self.categories = nn.Linear(hidden, n_classes) if n_classes else None
        self.attributes = nn.Linear(hidden, n_attributes) if n_attributes else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Shape (batch, n_classes + n_attributes) from (batch, hidden); attributes in units of [-1, 1]."""
        found = []
        if self.categories is not None:
            found.append(self.categories(hidden))
        if self.attributes is not None:
            found.append(self.attributes(hidden.tanh()))
        return torch.cat(found, dim=1)


class DenseHead(nn.Module):
    """Dense layer, ReLU, batch normalisation, output layers.

    Parameters
    ----------
    size : int
        Dimension of the pooled vector.
    hidden : int
        Dimension of the dense layer, which is also the utterance embedding.
    n_classes, n_attributes : int
        As of `Outputs`.
    dropout : float
        Before the output layers, in [0, 1].

    References
    ----------
    TalTech, Odyssey 2024, section 3.1: "a fully connected layer featuring ReLU activation and
    BatchNorm, and the final output layer".
    """

    def __init__(
        self, size: int, hidden: int, n_classes: int, n_attributes: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(size, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = Outputs(hidden, n_classes, n_attributes)

    def embed(self, pooled: Tensor) -> Tensor:
        """Output of the dense layer, shape (batch, hidden): the embedding of section 3.1."""
        return self.dense(pooled)

    def forward(self, pooled: Tensor) -> Tensor:
        """Outputs, shape (batch, n_classes + n_attributes), of pooled vectors (batch, size)."""
        return self.output(self.dropout(self.norm(self.embed(pooled).relu())))


class ProjectorHead(nn.Module):
    """Linear projection, output layers: the head of transformers' audio classifiers.

    They project every frame and then take the mean; here the pooled vector is projected. Under mean
    pooling that is the same, as a projection with its bias commutes with the mean, for a fraction of
    the products.

    Parameters
    ----------
    size, hidden, n_classes, n_attributes, dropout
        As of `DenseHead`; `hidden` is the dimension of the projection.

    References
    ----------
    "Efficient fine-tuning approaches on HuBERT for speech emotion recognition on multiple labels",
    Table 1 ("Projector", "Classifier").
    """

    def __init__(
        self, size: int, hidden: int, n_classes: int, n_attributes: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.projector = nn.Linear(size, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = Outputs(hidden, n_classes, n_attributes)

    def embed(self, pooled: Tensor) -> Tensor:
        """The projected vector, shape (batch, hidden)."""
        return self.projector(pooled)

    def forward(self, pooled: Tensor) -> Tensor:
        """Outputs, shape (batch, n_classes + n_attributes), of pooled vectors (batch, size)."""
        return self.output(self.dropout(self.embed(pooled)))


HEADS = {"dense": DenseHead, "projector": ProjectorHead}


def build_head(name: Literal["dense", "projector"], size: int, **settings) -> nn.Module:
    """The head of that name for pooled vectors of `size` dimensions; settings as of `DenseHead`."""
    return HEADS[name](size, **settings)
