"""The speech network: encoder, pooling, head."""

from __future__ import annotations

from torch import Tensor, nn

from serflow.nets.encoders import SpeechEncoder


class SpeechNet(nn.Module):
    """Encoder, pooling over time and classification head.

    Parameters
    ----------
    encoder : SpeechEncoder
    pooling : nn.Module
        See `serflow.nets.pooling`.
    head : nn.Module
        From the pooled vector to logits.

    References
    ----------
    TalTech, Odyssey 2024, section 3.1.
    """

    def __init__(self, encoder: SpeechEncoder, pooling: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.head = head

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (batch, n_classes), of right-padded inputs.

        Parameters
        ----------
        inputs : Tensor of float32, shape (batch, samples) or (batch, time, features)
        mask : Tensor of bool, shape (batch, samples) or (batch, time)
        """
        return self.head(self.pooling(*self.encoder(inputs, mask)))

    def embed(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Output of the head's first dense layer, shape (batch, hidden); arguments as above."""
        return self.head.embed(self.pooling(*self.encoder(inputs, mask)))
