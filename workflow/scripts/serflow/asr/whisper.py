"""OpenAI's Whisper, and what is fine-tuned from it, through transformers.

References
----------
A. Radford et al.: Robust Speech Recognition via Large-Scale Weak Supervision. ICML 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from serflow.asr.engine import Settings, check_languages
from serflow.audio import SAMPLE_RATE
from serflow.errors import UserError


class Whisper:
    """See `serflow.asr.engine.Transcriber`.

    Inputs are at most 30 s, Whisper's own window, so nothing is cut a second time.

    Parameters
    ----------
    model : WhisperForConditionalGeneration
    processor : WhisperProcessor
    beam : int
        Width of the beam; 1 is greedy.
    """

    def __init__(
        self, model: WhisperForConditionalGeneration, processor: WhisperProcessor, beam: int = 1
    ) -> None:
        self._model = model.eval()
        self._processor = processor
        self._beam = beam

    @property
    def facts(self) -> dict[str, str]:
        """Device, precision, version of transformers."""
        device = self._model.device.type
        return {
            "device": torch.cuda.get_device_name() if device == "cuda" else device,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "library": f"transformers {transformers.__version__}",
        }

    def transcribe(self, batch: Sequence[NDArray[np.float32]], language: str) -> list[str]:
        """One text for each array of samples, in order."""
        inputs = self._processor(
            list(batch),
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            return_attention_mask=True,
        )
        # An English-only model has no tokens for language and task.
        asked = {"language": language, "task": "transcribe"} if self._many() else {}
        with torch.inference_mode():
            tokens = self._model.generate(
                inputs.input_features.to(self._model.device, self._model.dtype),
                attention_mask=inputs.attention_mask.to(self._model.device),
                num_beams=self._beam,
                do_sample=False,
                **asked,
            )
        return self._processor.batch_decode(tokens, skip_special_tokens=True)

    def _many(self) -> bool:
        return bool(getattr(self._model.generation_config, "is_multilingual", False))


def load(settings: Settings) -> Whisper:
    """Load a Whisper from a local folder.

    Raises
    ------
    UserError
        It is no Whisper, or does not know a language.
    """
    torch.set_num_threads(settings.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = Path(settings.model)
    try:
        configuration = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        if configuration.model_type != "whisper":
            raise UserError(
                f"asr.{settings.name}: {settings.model} is a {configuration.model_type}, not a "
                "Whisper; expected openai/whisper-large-v3 or another of its family"
            )
        on_gpu = torch.cuda.is_available()
        model = WhisperForConditionalGeneration.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float16 if on_gpu else torch.float32,
        )
        processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"asr.{settings.name}: {settings.model} cannot be loaded as a Whisper: {reason}"
        ) from None
    check_languages(settings, languages(model))
    return Whisper(model.to("cuda" if on_gpu else "cpu"), processor, settings.beam)


def languages(model: WhisperForConditionalGeneration) -> list[str]:
    """Codes of the languages that a Whisper transcribes, sorted."""
    tokens = getattr(model.generation_config, "lang_to_id", None) or {"<|en|>": 0}
    return sorted(token.strip("<|>") for token in tokens)
