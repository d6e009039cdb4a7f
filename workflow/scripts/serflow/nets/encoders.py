"""Any transformers speech encoder behind one face: padded inputs in, frames and their mask out.

wav2vec2 (and so XLS-R), HuBERT, WavLM and emotion2vec read waveforms ("input_values");
Wav2Vec2-BERT and SONAR read stacked filter banks, Whisper a log-mel spectrogram ("input_features").
Padding changes nothing: an utterance alone and in a batch give the same frames, which transformers
itself does not guarantee (see `FrontEnd`, `MaskedGroupNorm` and `WhisperSpeechEncoder`).
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.utils import ModelOutput

from serflow.audio import SAMPLE_RATE
from serflow.errors import UserError
from serflow.nets import attention as fused
from serflow.nets import convolution, emotion2vec, emotion2vec_checkpoint, sonar, wavlm
from serflow.nets.adaptation import (
    Adaptation,
    Adapters,
    Lora,
    adapt,
    enable_gradient_checkpointing,
)
from serflow.nets.compilation import compile_layers
from serflow.nets.loading import SAFE, SAFE_WEIGHTS, check_complete, loading
from serflow.nets.whisper import WhisperSpeechEncoder, log_mel

# The shortest input that every front end turns into a frame (receptive field: 25 ms, two frames
# stacked); shorter utterances are filled with silence.
MIN_SAMPLES = SAMPLE_RATE // 10

# Tensors that fine-tuning does not use, or that older checkpoints store under another name.
OPTIONAL_WEIGHTS = ("masked_spec_embed", "parametrizations.weight", "pooler.")

sonar.register()
emotion2vec.register()


class FrontEnd:
    """The feature extractor of a model, applied to one utterance at a time.

    Extracting a padded batch is wrong for models whose extractor has no attention mask (wav2vec2
    and HuBERT base): the padding enters their mean and variance.

    Parameters
    ----------
    source : str
        Hub id or local folder.

    Attributes
    ----------
    key : {"input_values", "input_features"}
        What the encoder reads.
    costly : bool
        Whether extraction takes long enough to be worth keeping.
    limited : bool
        Whether the encoder takes no more than a window of a fixed length.
    """

    def __init__(self, source: str) -> None:
        if emotion2vec_checkpoint.is_released(source):
            # The model normalises; see `Emotion2vecEncoder`.
            self._extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
        else:
            with loading(source, "feature extractor"):
                self._extractor = AutoFeatureExtractor.from_pretrained(source, **SAFE)
        if self._extractor.sampling_rate != SAMPLE_RATE:
            raise UserError(
                f"'{source}' expects {self._extractor.sampling_rate} Hz, but serflow's audio is at "
                f"{SAMPLE_RATE} Hz; choose an encoder for 16 kHz"
            )
        self.key = self._extractor.model_input_names[0]
        if isinstance(self._extractor, SeamlessM4TFeatureExtractor):
            self._extractor._extract_fbank_features = self._filter_bank
        self.costly = self.key == "input_features"
        self.limited = isinstance(self._extractor, WhisperFeatureExtractor)

    def save(self, folder: Path) -> None:
        """Write the settings as transformers does; `FrontEnd(folder)` reads them."""
        extractor = copy(self._extractor)
        vars(extractor).pop("_extract_fbank_features", None)  # our faster one is no setting
        extractor.save_pretrained(folder)

    def __call__(self, samples: NDArray[np.float32]) -> Tensor:
        """Features of one utterance.

        Parameters
        ----------
        samples : ndarray of float32, shape (n,)
            16 kHz, in [-1, 1].

        Returns
        -------
        Tensor of float32, shape (time,) for waveforms or (time, features)
        """
        if len(samples) < MIN_SAMPLES:
            samples = np.pad(samples, (0, MIN_SAMPLES - len(samples)))
        if isinstance(self._extractor, WhisperFeatureExtractor):
            return torch.from_numpy(log_mel(self._extractor, samples))
        batch = self._extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np")
        features = np.asarray(batch[self.key][0], dtype=np.float32)
        if self.key == "input_features":
            # An odd number of frames is stacked with one of padding, which the mask leaves out.
            features = features[np.asarray(batch["attention_mask"][0], dtype=bool)]
        return torch.from_numpy(np.ascontiguousarray(features))

    def _filter_bank(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Kaldi's log mel filter bank as transformers computes it, all frames at once.

        transformers loops over frames in Python, which takes ten times as long.
        """
        frames = sliding_window_view(samples.astype(np.float64) * 2**15, 400)[::160]
        frames = frames - frames.mean(axis=1, keepdims=True)
        frames[:, 1:] -= 0.97 * frames[:, :-1]
        frames[:, 0] *= 1 - 0.97
        spectrum = np.fft.rfft(frames * self._extractor.window, n=512).astype(np.complex64)
        power = np.abs(spectrum, dtype=np.float64) ** 2
        mel = np.maximum(1.192092955078125e-07, power @ self._extractor.mel_filters)
        return np.log(mel).astype(np.float32)


class SpeechEncoder(nn.Module):
    """A speech encoder and its adaptation.

    Parameters
    ----------
    source : str
        Hub id or local folder.
    initial : {"pretrained", "random"}
        Load the weights, or draw them from torch's generator by the model's own scheme.
    adaptation : {"full", "lora", "adapters", "frozen"}
    lora : Lora, optional
        Needed with adaptation "lora".
    gradient_checkpointing : bool
    adapters : Adapters, optional
        Needed with adaptation "adapters".
    freeze_front_end : bool
        Do not train the convolutions over the waveform (Whisper: over the spectrogram). Other
        adaptations than "full" never train them.
    attention : {"sdpa", "eager"}
        torch's fused attention where the model has it, or transformers' own.
    full_window : bool
        Whisper alone: encode 30 s, silence after the utterance, as in its pre-training.
    compile : bool
        Compile the layers; see `serflow.nets.compilation`.

    Attributes
    ----------
    output_size : int
        Dimension of a frame.
    depth : int
        Number of `hidden_states`: the encoder's input and the output of every layer.
    """

    def __init__(
        self,
        source: str,
        initial: Literal["pretrained", "random"] = "pretrained",
        adaptation: Adaptation = "full",
        lora: Lora | None = None,
        gradient_checkpointing: bool = False,
        adapters: Adapters | None = None,
        freeze_front_end: bool = False,
        attention: Literal["sdpa", "eager"] = "sdpa",
        full_window: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        backbone = _load(source, initial, attention)
        if full_window:
            _show_full_window(backbone, source)
        _mask_frames(backbone)
        _mask_group_norm(backbone)
        convolution.use_products(backbone)
        fused.use_sequences(backbone)
        _forget_waveform(backbone)
        wavlm.use_layers(backbone, fused=attention == "sdpa")
        if freeze_front_end or adaptation != "full":
            _freeze_front_end(backbone, source, required=freeze_front_end)
        if gradient_checkpointing and adaptation != "frozen":
            enable_gradient_checkpointing(backbone)
        self.frozen = adaptation == "frozen"
        self.output_size = backbone.config.hidden_size
        self.depth = backbone.config.num_hidden_layers + 1
        self.backbone = adapt(backbone, adaptation, lora, adapters)
        if compile:
            compile_layers(self.backbone)

    def train(self, mode: bool = True) -> SpeechEncoder:
        """Set training mode; a frozen encoder keeps its dropout off."""
        return super().train(mode and not self.frozen)

    def forward(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode.

        Parameters
        ----------
        inputs : Tensor of float32, shape (batch, samples) or (batch, time, features)
            Right-padded output of `FrontEnd`.
        mask : Tensor of bool, shape (batch, samples) or (batch, time)
            True for real positions.

        Returns
        -------
        frames : Tensor of float, shape (batch, frames, output_size)
        frame_mask : Tensor of bool, shape (batch, frames)
        """
        output, frame_mask = self._run(inputs, mask)
        return output.last_hidden_state, frame_mask

    def hidden_states(self, inputs: Tensor, mask: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Frames at every depth, `depth` of them from the input up, and their mask; see `forward`."""
        states, _, frame_mask = self.all_states(inputs, mask)
        return states, frame_mask

    def all_states(self, inputs: Tensor, mask: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Frames at every depth, those of `forward`, and their mask."""
        output, frame_mask = self._run(inputs, mask, output_hidden_states=True)
        return output.hidden_states, output.last_hidden_state, frame_mask

    def _run(self, inputs: Tensor, mask: Tensor, **options: bool) -> tuple[ModelOutput, Tensor]:
        model = self.backbone
        model = model.get_base_model() if isinstance(model, PeftModel) else model
        for part in model.modules():
            if isinstance(part, MaskedGroupNorm):
                kernel, stride = model.config.conv_kernel[0], model.config.conv_stride[0]
                part.lengths = (mask.sum(dim=1) - kernel) // stride + 1
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            output = self.backbone(inputs, attention_mask=mask.long(), **options)
        time = output.last_hidden_state.shape[1]
        if time == mask.shape[1]:
            return output, mask
        return output, model._get_feature_vector_attention_mask(time, mask.long()).bool()


class MaskedGroupNorm(nn.GroupNorm):
    """One group per channel, statistics over the real positions only.

    wav2vec2 and HuBERT base normalise their first convolution over time, padding included, so a
    prediction would depend on the other utterances of its batch.

    Attributes
    ----------
    lengths : Tensor of int, shape (batch,)
        Real positions of each row; set by the encoder before each forward pass.
    """

    lengths: Tensor

    def forward(self, channels: Tensor) -> Tensor:
        """Normalise (batch, channels, time); the output on padding means nothing."""
        time = torch.arange(channels.shape[-1], device=channels.device)
        mask = (time < self.lengths.unsqueeze(1)).unsqueeze(1)
        count = self.lengths.view(-1, 1, 1)
        values = channels.float()
        mean = (values * mask).sum(dim=-1, keepdim=True) / count
        variance = ((values - mean) * mask).square().sum(dim=-1, keepdim=True) / count
        values = (values - mean) * torch.rsqrt(variance + self.eps)
        return values * self.weight.unsqueeze(1) + self.bias.unsqueeze(1)


def _mask_frames(backbone: PreTrainedModel) -> None:
    """Let the mask of the frames be found without a wait for the GPU, as transformers' own way has one."""
    if isinstance(backbone, WhisperSpeechEncoder) or not hasattr(backbone, "feature_extractor"):
        return

    def mask_of(time: int, mask: Tensor, **options: bool | None) -> Tensor:
        lengths = backbone._get_feat_extract_output_lengths(mask.sum(dim=1), **options)
        return torch.arange(time, device=mask.device) < lengths.unsqueeze(1)

    backbone._get_feature_vector_attention_mask = mask_of


def _forget_waveform(backbone: PreTrainedModel) -> None:
    """Let the front end not ask for the waveform's gradient, which nothing here uses.

    transformers' older gradient checkpointing needs it.
    """
    if hasattr(getattr(backbone, "feature_extractor", None), "_requires_grad"):
        backbone.feature_extractor._requires_grad = False


def _mask_group_norm(backbone: PreTrainedModel) -> None:
    for part in list(backbone.modules()):
        for name, child in part.named_children():
            # Exactly one channel per group, as in the convolutional front ends.
            if type(child) is nn.GroupNorm and child.num_groups == child.num_channels:
                masked = MaskedGroupNorm(child.num_groups, child.num_channels, child.eps)
                masked.weight, masked.bias = child.weight, child.bias
                setattr(part, name, masked)


def _freeze_front_end(backbone: PreTrainedModel, source: str, required: bool) -> None:
    """Exclude the convolutions from training: gradients then need not reach the waveform at all."""
    if isinstance(backbone, WhisperSpeechEncoder):
        backbone.freeze_feature_encoder()
    elif hasattr(backbone, "feature_extractor"):
        # What freeze_feature_encoder() does; HuBERT's bare model lacks that method.
        backbone.feature_extractor._freeze_parameters()
    elif required:
        raise UserError(
            f"freeze_front_end: '{source}' ({type(backbone).__name__}) has no convolutional front "
            "end; leave the setting out"
        )


def _show_full_window(backbone: PreTrainedModel, source: str) -> None:
    if not isinstance(backbone, WhisperSpeechEncoder):
        raise UserError(
            f"full_window: '{source}' ({type(backbone).__name__}) has no window of a fixed length, "
            "only Whisper has; leave the setting out"
        )
    backbone.full_window = True


def _load(
    source: str,
    initial: Literal["pretrained", "random"],
    attention: Literal["sdpa", "eager"] = "sdpa",
) -> PreTrainedModel:
    released = emotion2vec_checkpoint.is_released(source)
    with loading(source, "speech encoder"):
        if released:
            config = emotion2vec_checkpoint.read_config(source)
        else:
            config = AutoConfig.from_pretrained(source, **SAFE)
        # Augmentation belongs to the study, not to a checkpoint's defaults; layer drop also crashes
        # together with weighted layer sums and makes a pass over a LoRA layer a lottery.
        config.layerdrop = 0.0
        config.apply_spec_augment = False
        if attention == "eager":  # "sdpa" is transformers' default for the models that have it
            config._attn_implementation = "eager"
        whisper = config.model_type == "whisper"
        if initial == "random":
            if whisper:
                return WhisperSpeechEncoder(config)
            return AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32)
        if released:
            model = AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32)
            tensors = emotion2vec_checkpoint.read_tensors(source)
            missing = model.load_state_dict(tensors, strict=False).missing_keys
            check_complete(source, missing, "encoder")
            return model
        load = WhisperSpeechEncoder.of_checkpoint if whisper else AutoModel.from_pretrained
        model, info = load(source, config=config, dtype=torch.float32, **SAFE_WEIGHTS)
    missing = [n for n in info["missing_keys"] if not any(o in n for o in OPTIONAL_WEIGHTS)]
    check_complete(source, missing, "encoder")
    return model
