"""Keys and values of NeMo's decoder, computed once instead of at every token.

From token to token NeMo 3.0 keeps the states that its decoder's layers put out, but not the keys and
values that attention makes of them: those of all earlier tokens, and those of the whole recording, are
projected anew for each token, which is most of the decoder's work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OfTheRecording(nn.Module):
    """A projection that is asked for the same tensor again and again.

    Parameters
    ----------
    projection : Linear
    """

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection
        self._last: tuple[Tensor, Tensor] | None = None

    def forward(self, states: Tensor) -> Tensor:
        """As the projection."""
        if self._last is None or self._last[0] is not states:
            self._last = states, self.projection(states)
        return self._last[1]

    def forget(self) -> None:
        """Let go of the last tensor."""
        self._last = None


class OfTheTokens(nn.Module):
    """A projection of all tokens so far, where the earlier ones stay what they were: greedy decoding.

    Parameters
    ----------
    projection : Linear
    """

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection
        self._known: Tensor | None = None

    def forward(self, states: Tensor) -> Tensor:
        """As the projection; of states (batch, tokens, size), those that are new are looked at."""
        if self._known is None:
            self._known = self.projection(states)
        else:
            new = states[:, self._known.shape[1] :]
            self._known = torch.cat([self._known, self.projection(new)], dim=1)
        return self._known

    def forget(self) -> None:
        """Begin anew."""
        self._known = None


def remember(encoder: nn.Module, decoder: nn.Module, greedy: bool) -> None:
    """Have a decoder remember its keys and values until the encoder hears the next batch.

    Parameters
    ----------
    encoder : Module
    decoder : nemo TransformerDecoder
    greedy : bool
        Otherwise the tokens of a beam change places, and only what is of the recording is kept.
    """
    kept: list[OfTheRecording | OfTheTokens] = []
    for layer in decoder.layers:
        attentions = [(layer.second_sub_layer, OfTheRecording)]
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
