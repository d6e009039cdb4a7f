"""Keys and values of NeMo's decoder, computed once instead of at every token.

From token to token NeMo 3.0 keeps the states that its decoder's layers put out, but not the keys and
values that attention makes of them: those of all earlier tokens, and those of the whole recording, are
projected anew for each token, which is most of the decoder's work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Remembered(nn.Module):
    """A projection and what it has computed.

    Parameters
    ----------
    projection : Linear
    """

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection
        self._states: Tensor | None = None
        self._projected: Tensor | None = None

    def forget(self) -> None:
        """Let go of it, for another batch."""
        self._states = self._projected = None


class OfTheRecording(Remembered):
    """Asked for the same tensor again and again."""

    def forward(self, states: Tensor) -> Tensor:
        """As the projection."""
        if self._states is not states:
            self._states, self._projected = states, self.projection(states)
        return self._projected


class OfTheTokens(Remembered):
    """Asked for all tokens so far, where the earlier ones stay what they were: greedy decoding."""

    def forward(self, states: Tensor) -> Tensor:
        """As the projection; of states (batch, tokens, size), those that are new are looked at."""
        if self._projected is None:
            self._projected = self.projection(states)
        else:
            new = self.projection(states[:, self._projected.shape[1] :])
            self._projected = torch.cat([self._projected, new], dim=1)
        return self._projected


def remember(encoder: nn.Module, decoder: nn.Module, greedy: bool) -> None:
    """Have a decoder remember its keys and values until the encoder hears the next batch.

    Parameters
    ----------
    encoder : Module
    decoder : nemo TransformerDecoder
    greedy : bool
        Otherwise the tokens of a beam change places, and only what is of the recording is kept.
    """
    kept: list[Remembered] = []
    for layer in decoder.layers:
        attentions: list[tuple[nn.Module, type[Remembered]]] = [
            (layer.second_sub_layer, OfTheRecording)
        ]
        if greedy:
            attentions.append((layer.first_sub_layer, OfTheTokens))
        for attention, kind in attentions:
            attention.key_net = kind(attention.key_net)
            attention.value_net = kind(attention.value_net)
            kept += [attention.key_net, attention.value_net]

    def forget(*_: object) -> None:
        for projection in kept:
            projection.forget()

    encoder.register_forward_pre_hook(forget)
