"""SONAR's speech encoder as a transformers model, so that `AutoModel` loads it like any other.

The network is w2v-BERT's conformer of 2021: relative positions as in Transformer-XL, depthwise
convolution over both sides with batch normalisation. transformers has it as the first half of
SeamlessM4T v1; `Wav2Vec2BertModel` is another network (Shaw's positions, causal convolution).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.seamless_m4t.modeling_seamless_m4t import (
    SeamlessM4TConformerEncoder,
    SeamlessM4TConformerFeatureProjection,
    SeamlessM4TConformerRelPositionalEmbedding,
    SeamlessM4TPreTrainedModel,
)


class SonarSpeechConfig(PreTrainedConfig):
    """Sizes of a SONAR speech encoder; the defaults are those of all that are released.

    Dropout and layer drop are zero as in fairseq2's architecture "600m", which SONAR builds on.
    """

    model_type = "sonar_speech"
    attribute_map = {
        "speech_encoder_layers": "num_hidden_layers",
        "speech_encoder_attention_heads": "num_attention_heads",
        "speech_encoder_intermediate_size": "intermediate_size",
        "speech_encoder_hidden_act": "hidden_act",
        "speech_encoder_dropout": "dropout",
        "speech_encoder_layerdrop": "layerdrop",
    }

    feature_projection_input_dim: int = 160
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    conv_depthwise_kernel_size: int = 31
    hidden_act: str = "swish"
    dropout: float | int = 0.0
    layerdrop: float | int = 0.0
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    position_embeddings_type: str = "relative"
    max_source_positions: int = 4096  # computed ahead; longer inputs work


class SonarSpeechEncoder(SeamlessM4TPreTrainedModel):
    """Projection of stacked filter banks, conformer blocks, and a last layer normalisation.

    SONAR's own pooling to a sentence embedding is left out: TalTech trains another in its place.

    Batch normalisation always uses the statistics of pre-training, also in training mode. Those of
    a small batch would count padding, make an utterance's frames depend on its company, move while
    low-rank adapters train, and move twice a step under gradient checkpointing.

    Parameters
    ----------
    config : SonarSpeechConfig

    References
    ----------
    Duquenne et al., SONAR (2023), https://arxiv.org/abs/2308.11466; Chung et al., w2v-BERT (2021),
    https://arxiv.org/abs/2108.06209; Dai et al., Transformer-XL (2019), section 3.3.
    """

    config: SonarSpeechConfig
    config_class = SonarSpeechConfig
    base_model_prefix = "sonar_speech"
    main_input_name = "input_features"

    def __init__(self, config: SonarSpeechConfig) -> None:
        super().__init__(config)
        self.feature_projection = SeamlessM4TConformerFeatureProjection(config)
        self.encoder = SeamlessM4TConformerEncoder(config)
        self.encoder.embed_positions = RelativePositions(config)
        self.post_init()

    def train(self, mode: bool = True) -> SonarSpeechEncoder:
        """Set training mode of all but batch normalisation."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.eval()
        return self

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """Encode.

        Parameters
        ----------
        input_features : Tensor of float, shape (batch, time, features)
            Right-padded, two frames of 10 ms stacked.
        attention_mask : Tensor of int or bool, shape (batch, time), optional
            Not zero for real positions; without it, all are.
        output_hidden_states : bool

        Returns
        -------
        BaseModelOutput
            `last_hidden_state`, shape (batch, time, hidden_size), and where asked for
            `hidden_states`: what each block is given, and the last hidden state.
        """
        states: list[Tensor] = []
        watched = [
            block.register_forward_pre_hook(lambda _, given: states.append(given[0]))
            for block in (self.encoder.layers if output_hidden_states else ())
        ]
        try:
            frames = self.encoder(self.feature_projection(input_features), attention_mask)
        finally:
            for hook in watched:
                hook.remove()
        return BaseModelOutput(
            last_hidden_state=frames,
            hidden_states=(*states, frames) if output_hidden_states else None,
        )


class RelativePositions(SeamlessM4TConformerRelPositionalEmbedding):
    """Sinusoids of the distances, kept in float32.

    The original rounds its table to the first inputs in bfloat16 for good, so a model that was
    trained in mixed precision would not score as it does after reloading.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Sinusoids of the distances time - 1 to 1 - time, shape (1, 2 * time - 1, hidden_size).

        Parameters
        ----------
        hidden_states : Tensor, shape (batch, time, hidden_size)
        """
        like = torch.empty(1, hidden_states.shape[1], device=hidden_states.device)
        return super().forward(like).to(hidden_states.dtype)


def register() -> None:
    """Let `AutoConfig` and `AutoModel` know the model type "sonar_speech"."""
    AutoConfig.register(SonarSpeechConfig.model_type, SonarSpeechConfig, exist_ok=True)
    AutoModel.register(SonarSpeechConfig, SonarSpeechEncoder, exist_ok=True)
