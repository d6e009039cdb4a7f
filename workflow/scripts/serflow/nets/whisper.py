"""Whisper's encoder for utterances of any length up to its window, and the log-mel front end to it.

OpenAI's encoder was trained on windows of 30 s, silence after the utterance, and transformers takes
nothing else. Here it sees the utterance alone, with the first of its positions: that costs a tenth
for utterances of 3 s, and is another input than in pre-training, which an encoder that is trained
adjusts to. Where it matters, as for a frozen encoder, `full_window` restores the window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperConfig, WhisperEncoder
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from serflow.errors import UserError

# Whole-model checkpoints keep the encoder under one of these names, by the class that saved them.
ENCODER_NAMES = {r"^(model\.)?encoder\.": ""}
HOP = 160


def log_mel(
    extractor: WhisperFeatureExtractor, samples: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Whisper's log-mel spectrogram, cut to the utterance: the first frames of its 30 s window.

    The last of them is the last that any sample of the utterance enters.

    Parameters
    ----------
    extractor : WhisperFeatureExtractor
    samples : ndarray of float32, shape (n,)
        16 kHz, in [-1, 1].

    Returns
    -------
    ndarray of float32, shape (ceil((n + 200) / 160), bins)
        Logarithms at most 2 below the utterance's highest value, as Whisper scales them.
    """
    frames = -(-(len(samples) + extractor.n_fft // 2) // HOP)
    if len(samples) <= extractor.n_samples:
        frames = min(frames, extractor.nb_max_frames)
    # The last frames reach past the utterance: into silence, as in a window, not its reflection.
    silence = np.zeros(2 * extractor.n_fft, np.float32)
    with torch.autocast("cpu", enabled=False):  # it computes with torch, wherever it is called
        batch = extractor(
            np.concatenate([samples, silence]),
            sampling_rate=extractor.sampling_rate,
            padding="do_not_pad",
            truncation=False,
            return_tensors="np",
        )
    return np.ascontiguousarray(batch["input_features"][0].T[:frames], dtype=np.float32)


class WhisperSpeechEncoder(WhisperEncoder):
    """Whisper's encoder with a mask: an utterance alone and in a batch give the same frames.

    Parameters
    ----------
    config : WhisperConfig
        Of the whole model.

    Attributes
    ----------
    full_window : bool
        Encode the whole window, silence after the utterance; the frames of the utterance come back
        either way.

    References
    ----------
    Radford et al., Robust speech recognition via large-scale weak supervision (2022), section 2.2,
    https://arxiv.org/abs/2212.04356.
    """

    full_window = False

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.layerdrop = 0.0

    @classmethod
    def of_checkpoint(cls, source: str, **settings: Any) -> Any:
        """`from_pretrained` on a checkpoint of the whole model, or of its encoder alone."""
        return cls.from_pretrained(source, key_mapping=ENCODER_NAMES, **settings)

    def freeze_feature_encoder(self) -> None:
        """Do not train the two convolutions over the spectrogram."""
        self.conv1.requires_grad_(False)
        self.conv2.requires_grad_(False)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self, input_features: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """Encode.

        Parameters
        ----------
        input_features : Tensor of float, shape (batch, time, bins)
            Right-padded output of `log_mel`: the transpose of what transformers takes.
        attention_mask : Tensor of int or bool, shape (batch, time), optional
            Not zero for real positions; without it, all are.

        Returns
        -------
        BaseModelOutput
            `last_hidden_state`, shape (batch, ceil(time / 2), hidden_size).

        Raises
        ------
        UserError
            If the batch is longer than the model's window.
        """
        window = 2 * self.max_source_positions
        time = input_features.shape[1]
        if time > window:
            raise UserError(
                f"Whisper's encoder has positions for {window / 100:g} s, and an input has "
                f"{time / 100:.2f} s: set max_seconds to {window / 100:g} or less"
            )
        if attention_mask is None:
            attention_mask = torch.ones(input_features.shape[:2], device=input_features.device)
        mask = attention_mask.bool().unsqueeze(1)
        spectrogram = input_features.transpose(1, 2)
        if self.full_window:
            spectrogram, mask = _with_silence(spectrogram, mask, window), None

        # The convolutions find zeros after an utterance, as at the edge of a batch of its own.
        frames = nn.functional.gelu(self.conv1(_masked(spectrogram, mask)))
        frames = nn.functional.gelu(self.conv2(_masked(frames, mask))).transpose(1, 2)
        frames = frames + self.embed_positions.weight[: frames.shape[1]]
        frames = nn.functional.dropout(frames, p=self.dropout, training=self.training)
        if mask is not None:
            mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=frames, attention_mask=mask[:, 0, ::2]
            )
        for layer in self.layers:
            frames = layer(frames, mask, **kwargs)
        frames = self.layer_norm(frames)
        return BaseModelOutput(last_hidden_state=frames[:, : (time + 1) // 2])

    def _get_feature_vector_attention_mask(self, frames: int, mask: Tensor) -> Tensor:
        """The mask of the frames, as wav2vec2's method of this name gives it."""
        return mask[:, ::2][:, :frames]


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask


def _with_silence(spectrogram: Tensor, mask: Tensor, window: int) -> Tensor:
    """Fill up to `window` with the value that `log_mel` gives to silence after the utterance.

    Whisper limits the logarithms to 8 below the highest, and log10(1e-10) is the lowest; it then
    adds 4 and divides by 4.
    """
    highest = spectrogram.masked_fill(~mask, -torch.inf).amax(dim=(1, 2), keepdim=True)
    silence = (highest - 2).clamp(min=-1.5)
    filled = torch.where(mask, spectrogram, silence)
    rest = silence.expand(-1, spectrogram.shape[1], window - spectrogram.shape[2])
    return torch.cat([filled, rest], dim=2)
