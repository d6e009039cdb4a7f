"""emotion2vec as a transformers model: wav2vec2's layers under data2vec 2.0's attention biases.

Every layer is one of transformers' own. What no model of transformers has is how they are put
together: extra tokens before the utterance, and ALiBi, a bias of the attention by distance with a
learnt scale per head, in place of an attention mask.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, Wav2Vec2Config
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioPositionalConvLayer
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2EncoderLayer,
    Wav2Vec2FeatureEncoder,
    Wav2Vec2FeatureProjection,
    Wav2Vec2PreTrainedModel,
)


class Emotion2vecConfig(Wav2Vec2Config):
    """Sizes of an emotion2vec; the defaults are those of the released base model.

    `num_conv_pos_embeddings` counts layers, as in transformers' data2vec.
    """

    model_type = "emotion2vec"

    feat_extract_norm: str = "layer"
    activation_dropout: float | int = 0.0
    num_conv_pos_embeddings: int = 5
    conv_pos_kernel_size: int = 19
    num_extra_tokens: int = 10
    input_dropout: float | int = 0.1


class Emotion2vecEncoder(Wav2Vec2PreTrainedModel):
    """Convolutions over the waveform, convolutional positions, transformer layers.

    The waveform is normalised here, over the utterance alone, as emotion2vec does it: transformers'
    feature extractor would divide by another variance (it adds 1e-7, emotion2vec 1e-5).

    Parameters
    ----------
    config : Emotion2vecConfig

    References
    ----------
    Ma et al., emotion2vec (2024), https://arxiv.org/abs/2312.15185; Baevski et al., data2vec 2.0
    (2023), https://arxiv.org/abs/2212.07525; Press et al., ALiBi (2022),
    https://arxiv.org/abs/2108.12409.
    """

    config: Emotion2vecConfig
    config_class = Emotion2vecConfig
    base_model_prefix = "emotion2vec"

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__(config)
        self.feature_extractor = Wav2Vec2FeatureEncoder(config)
        self.feature_projection = Wav2Vec2FeatureProjection(config)
        self.position_layers = nn.ModuleList(
            Data2VecAudioPositionalConvLayer(config) for _ in range(config.num_conv_pos_embeddings)
        )
        self.extra_tokens = nn.Parameter(
            torch.zeros(1, config.num_extra_tokens, config.hidden_size)
        )
        self.alibi_scale = nn.Parameter(torch.ones(config.num_attention_heads))
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.input_dropout)
        self.layers = nn.ModuleList(
            Wav2Vec2EncoderLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Emotion2vecEncoder):
            init.normal_(module.extra_tokens)
            init.ones_(module.alibi_scale)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode.

        Parameters
        ----------
        input_values : Tensor of float, shape (batch, samples)
            Right-padded, in [-1, 1].
        attention_mask : Tensor of int or bool, shape (batch, samples), optional
            Not zero for real samples; without it, all are.
        output_hidden_states : bool

        Returns
        -------
        BaseModelOutput
            `last_hidden_state`, shape (batch, frames, hidden_size), without the extra tokens; and, if
            asked for, `hidden_states`: what each layer is given, and the last hidden state.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_values, dtype=torch.long)
        waves = _normalised(input_values, attention_mask.bool())
        frames, _ = self.feature_projection(self.feature_extractor(waves).transpose(1, 2))
        mask = self._get_feature_vector_attention_mask(frames.shape[1], attention_mask.long())
        mask = mask.bool()

        # Every convolution finds zeros after an utterance, as at the edge of a batch of its own.
        positions = frames.transpose(1, 2)
        for layer in self.position_layers:
            positions = layer(positions * mask.unsqueeze(1))
        frames = frames + positions.transpose(1, 2)

        extra = self.extra_tokens.expand(len(frames), -1, -1)
        frames = self.dropout(self.layer_norm(torch.cat([extra, frames], dim=1)))
        bias = self._attention_bias(mask, frames.dtype)
        states = [frames[:, extra.shape[1] :]]
        for layer in self.layers:
            frames = layer(frames, bias, **kwargs)
            states.append(frames[:, extra.shape[1] :])
        return BaseModelOutput(
            last_hidden_state=states[-1],
            hidden_states=tuple(states) if output_hidden_states else None,
        )

    def _attention_bias(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """Minus distance times slope times scale, nothing for the extra tokens, -inf on padding.

        Shape (batch, heads, extra + frames, extra + frames), for a mask (batch, frames).
        """
        extra = self.extra_tokens.shape[1]
        time = torch.arange(mask.shape[1], device=mask.device)
        distances = (time.unsqueeze(0) - time.unsqueeze(1)).abs()
        slopes = torch.tensor(alibi_slopes(len(self.alibi_scale)), device=mask.device)
        slopes = slopes * self.alibi_scale.clamp(min=0)
        bias = nn.functional.pad(-slopes.view(-1, 1, 1) * distances, (extra, 0, extra, 0))
        hidden = ~nn.functional.pad(mask, (extra, 0), value=True)
        return bias.to(dtype).masked_fill(hidden[:, None, None], -torch.inf)


def alibi_slopes(heads: int) -> list[float]:
    """ALiBi's slopes: a geometric sequence, filled up from that of twice as many heads.

    >>> alibi_slopes(2)
    [0.0625, 0.00390625]
    >>> alibi_slopes(3)
    [0.0625, 0.00390625, 0.25]
    """
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return slopes + (alibi_slopes(2 * power)[::2][: heads - power] if heads > power else [])


def _normalised(waves: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum(dim=1, keepdim=True)
    mean = (waves * mask).sum(dim=1, keepdim=True) / count
    centred = (waves - mean) * mask
    return centred * torch.rsqrt(centred.square().sum(dim=1, keepdim=True) / count + 1e-5)


def register() -> None:
    """Let `AutoConfig` and `AutoModel` know the model type "emotion2vec"."""
    AutoConfig.register(Emotion2vecConfig.model_type, Emotion2vecConfig, exist_ok=True)
    AutoModel.register(Emotion2vecConfig, Emotion2vecEncoder, exist_ok=True)
