"""The heads on top of the pooled vector."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class ClassifierHead(nn.Module):
    """Dense layer, ReLU, batch normalisation, output layer.

    Parameters
    ----------
    size : int
        Dimension of the pooled vector.
    hidden : int
        Dimension of the dense layer, which is also the utterance embedding.
    n_classes : int
    dropout : float
        Before the output layer, in [0, 1].

    References
    ----------
    TalTech, Odyssey 2024, section 3.1: "a fully connected layer featuring ReLU activation and
    BatchNorm, and the final output layer".
    """

    def __init__(self, size: int, hidden: int, n_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dense = nn.Linear(size, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, n_classes)

    def embed(self, pooled: Tensor) -> Tensor:
        """Output of the dense layer, shape (batch, hidden): the embedding of section 3.1."""
        return self.dense(pooled)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits, shape (batch, n_classes), from pooled vectors of shape (batch, size)."""
        return self.output(self.dropout(self.norm(self.embed(pooled).relu())))


class ProjectorHead(nn.Module):
    """Linear projection, output layer: the head of transformers' audio classifiers.

    They project every frame and then take the mean; here the pooled vector is projected. Under mean
    pooling that is the same, as a projection with its bias commutes with the mean, for a fraction of
    the products.

    Parameters
    ----------
    size : int
        Dimension of the pooled vector.
    hidden : int
        Dimension of the projection, which is also the utterance embedding.
    n_classes : int
    dropout : float
        Before the output layer, in [0, 1].

    References
    ----------
    "Efficient fine-tuning approaches on HuBERT for speech emotion recognition on multiple labels",
    Table 1 ("Projector", "Classifier").
    """

    def __init__(self, size: int, hidden: int, n_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.projector = nn.Linear(size, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, n_classes)

    def embed(self, pooled: Tensor) -> Tensor:
        """The projected vector, shape (batch, hidden)."""
        return self.projector(pooled)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits, shape (batch, n_classes), from pooled vectors of shape (batch, size)."""
        return self.output(self.dropout(self.embed(pooled)))


def build_head(
    name: Literal["dense", "projector"], size: int, hidden: int, n_classes: int, dropout: float
) -> ClassifierHead | ProjectorHead:
    """The head of that name for pooled vectors of `size` dimensions."""
    kind = {"dense": ClassifierHead, "projector": ProjectorHead}[name]
    return kind(size, hidden, n_classes, dropout)
