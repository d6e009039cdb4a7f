"""The speech network: encoder, layers, pooling, head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from serflow.nets.encoders import SpeechEncoder
from serflow.nets.layers import WeightedSum
from serflow.nets.loading import stored_tensors


class SpeechNet(nn.Module):
    """Encoder, pooling over time and classification head.

    Parameters
    ----------
    encoder : SpeechEncoder
    pooling : nn.Module
        See `serflow.nets.pooling`.
    head : nn.Module
        From the pooled vector to logits.
    layers : WeightedSum, optional
        How the encoder's depths are mixed; without it, its output is heard.

    References
    ----------
    TalTech, Odyssey 2024, section 3.1.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        pooling: nn.Module,
        head: nn.Module,
        layers: WeightedSum | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.layers = layers
        self.pooling = pooling
        self.head = head

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (batch, n_classes), of right-padded inputs.

        Parameters
        ----------
        inputs : Tensor of float32, shape (batch, samples) or (batch, time, features)
        mask : Tensor of bool, shape (batch, samples) or (batch, time)
        """
        return self.head(self.pool(inputs, mask))

    def embed(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Output of the head's first dense layer, shape (batch, hidden); arguments as above."""
        return self.head.embed(self.pool(inputs, mask))

    def pool(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """One vector per utterance, shape (batch, pooling.output_size): what the head is given."""
        if self.layers is None:
            return self.pooling(*self.encoder(inputs, mask))
        states, frame_mask = self.encoder.hidden_states(inputs, mask)
        return self.pooling(self.layers(states), frame_mask)


def load_head(net: SpeechNet, source: str) -> list[str]:
    """Copy what a checkpoint of an audio classifier has beside its encoder into `net`.

    These are the weights of the layers and the projector. The output layer is of other classes and
    stays as it is drawn; so does what the checkpoint lacks, or has in another size.

    Parameters
    ----------
    net : SpeechNet
    source : str
        Hub id or local folder.

    Returns
    -------
    list of str
        Names of the copied tensors in the checkpoint, sorted.
    """
    wanted = {}
    if net.layers is not None:
        wanted["layer_weights"] = net.layers.layer_weights
    projector = getattr(net.head, "projector", None)
    if projector is not None:
        wanted |= {"projector.weight": projector.weight, "projector.bias": projector.bias}
    found = stored_tensors(source, list(wanted))
    fitting = sorted(name for name, tensor in found.items() if tensor.shape == wanted[name].shape)
    with torch.no_grad():
        for name in fitting:
            wanted[name].copy_(found[name])
    return fitting
