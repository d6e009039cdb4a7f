"""NVIDIA's Canary through NeMo, greedy.

References
----------
K. C. Puvvada et al.: Less is More: Accurate Speech Recognition & Translation without Web-Scale Data.
Interspeech 2024. https://huggingface.co/nvidia/canary-1b
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from serflow.asr.engine import Settings
from serflow.asr.quiet import quiet_nemo
from serflow.audio import SAMPLE_RATE
from serflow.errors import UserError

quiet_nemo()

from nemo.collections.asr.models import ASRModel, EncDecMultiTaskModel  # noqa: E402
from nemo.collections.asr.models.aed_multitask_models import (  # noqa: E402
    MultiTaskTranscriptionConfig,
)
from nemo.collections.common.tokenizers.aggregate_tokenizer import AggregateTokenizer  # noqa: E402
from nemo.collections.common.tokenizers.canary_tokenizer import (  # noqa: E402
    CANARY_SPECIAL_TOKENIZER,
)
from nemo.core.connectors.save_restore_connector import SaveRestoreConnector  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

# Tokens beyond the encoder's length; without it greedy decoding runs to the decoder's maximum.
MAX_GENERATION_DELTA = 50
UNPACKED = "model_config.yaml"


class Canary:
    """See `serflow.asr.engine.Transcriber`.

    Parameters
    ----------
    model : EncDecMultiTaskModel
    language : str
        Spoken and written language.
    pnc : bool
        Ask for punctuation and capitals.
    """

    def __init__(self, model: EncDecMultiTaskModel, language: str, pnc: bool) -> None:
        # Released checkpoints ask for a beam of size 1; the paper decoded greedily.
        greedy = {"strategy": "greedy", "greedy": {"max_generation_delta": MAX_GENERATION_DELTA}}
        model.change_decoding_strategy(OmegaConf.create(greedy))
        self._model = model.eval()
        self._model.freeze()
        self._slots = prompt_slots(model.prompt_format, language, pnc)

    def transcribe(self, batch: Sequence[NDArray[np.float32]]) -> list[str]:
        """One text for each array of samples, in order."""
        # A fresh configuration each time, for transcribe() writes into it. No chunking: at batch
        # size 1 it merges different inputs into one text (canary-1b-v2).
        config = MultiTaskTranscriptionConfig(
            batch_size=len(batch),
            num_workers=0,
            verbose=False,
            prompt=dict(self._slots),
            enable_chunking=False,
        )
        try:
            with torch.inference_mode():
                found = self._model.transcribe(
                    [torch.from_numpy(samples) for samples in batch], override_config=config
                )
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise
        return [getattr(item, "text", item) for item in found]


def prompt_slots(prompt_format: str, language: str, pnc: bool) -> dict[str, str]:
    """What the decoder is told before it writes.

    Parameters
    ----------
    prompt_format : {"canary", "canary2"}
        Of canary-1b, and of its successors.
    language : str
    pnc : bool
    """
    slots = {"source_lang": language, "target_lang": language, "pnc": "yes" if pnc else "no"}
    if prompt_format == "canary":
        return {**slots, "task": "asr"}
    return {**slots, "itn": "no", "timestamp": "no", "diarize": "no"}


def load(settings: Settings) -> Canary:
    """Load a Canary from a `.nemo` file, a folder (unpacked, or with one `.nemo` file) or the hub.

    Raises
    ------
    UserError
        There is no such model, it is no Canary, its sample rate is not 16 kHz, or it does not know
        the language.
    """
    torch.set_num_threads(settings.threads)
    model = _restore(settings.model)
    kind = type(model).__name__
    if not isinstance(model, EncDecMultiTaskModel) or "canary" not in model.prompt_format:
        raise UserError(f"asr.model: {settings.model} is a {kind}, not a Canary")
    if model.cfg.sample_rate != SAMPLE_RATE:
        raise UserError(
            f"asr.model: {settings.model} hears {model.cfg.sample_rate} Hz, serflow has 16 kHz"
        )
    known = languages(model)
    if settings.language not in known:
        raise UserError(
            f"asr.language: {settings.model} does not know '{settings.language}'; "
            f"it knows {', '.join(known)}"
        )
    return Canary(
        model.to("cuda" if torch.cuda.is_available() else "cpu"), settings.language, settings.pnc
    )


def languages(model: EncDecMultiTaskModel) -> list[str]:
    """Codes of the languages that a Canary transcribes, sorted."""
    tokenizer = model.tokenizer
    if isinstance(tokenizer, AggregateTokenizer):
        # By its parts, for the special tokens of the flash models name all languages of ISO 639-1.
        return sorted(set(tokenizer.langs) - {CANARY_SPECIAL_TOKENIZER})
    # One tokenizer for all, with "<|pnc|>", "<|en|>", "<|0|>", ... among its pieces (canary-1b-v2).
    codes = [re.fullmatch(r"<\|([a-z]{2})\|>", piece) for piece in tokenizer.vocab]
    return sorted(code[1] for code in codes if code)


def _restore(model: str) -> ASRModel:
    path = Path(model)
    try:
        if (path / UNPACKED).is_file():
            # Not unpacked again into the temporary folder of every job (4 GB for canary-1b).
            connector = SaveRestoreConnector()
            connector.model_extracted_dir = str(path.resolve())
            return ASRModel.restore_from(
                str(path.resolve()), map_location="cpu", save_restore_connector=connector
            )
        if path.is_dir():
            archives = sorted(path.glob("*.nemo"))
            if len(archives) != 1:
                raise UserError(
                    f"asr.model: {model} holds {len(archives)} .nemo files and no {UNPACKED}; "
                    "expected an unpacked Canary, or a folder with one .nemo file"
                )
            path = archives[0]
        if path.is_file():
            return ASRModel.restore_from(str(path.resolve()), map_location="cpu")
        if path.suffix == ".nemo" or path.is_absolute() or model.startswith("."):
            raise UserError(f"asr.model: there is no {model}")
        return ASRModel.from_pretrained(model, map_location="cpu")
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"asr.model: cannot load {model} as a NeMo model: {type(error).__name__}: {reason}"
        ) from error
