"""NVIDIA's Canary through NeMo.

References
----------
K. C. Puvvada et al.: Less is More: Accurate Speech Recognition & Translation without Web-Scale Data.
Interspeech 2024. https://huggingface.co/nvidia/canary-1b
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from serflow import models
from serflow.asr.engine import Settings, check_languages
from serflow.asr.quiet import quiet_nemo
from serflow.asr.remembered import remember
from serflow.audio import SAMPLE_RATE
from serflow.errors import UserError

quiet_nemo()

import nemo  # noqa: E402
from nemo.collections.asr.models import ASRModel, EncDecMultiTaskModel  # noqa: E402
from nemo.collections.common.tokenizers.aggregate_tokenizer import AggregateTokenizer  # noqa: E402
from nemo.collections.common.tokenizers.canary_tokenizer import (  # noqa: E402
    CANARY_SPECIAL_TOKENIZER,
)
from nemo.core.connectors.save_restore_connector import SaveRestoreConnector  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from serflow.asr.features import quicken  # noqa: E402

# Tokens beyond the encoder's length; without it decoding runs to the decoder's maximum.
MAX_GENERATION_DELTA = 50
CONFIGURATION = "model_config.yaml"
# Its vocabulary names languages that it was not trained on; these are those of the model card,
# https://huggingface.co/nvidia/canary-1b-v2.
PUBLISHED = {
    "canary-1b-v2": [
        "bg",
        "cs",
        "da",
        "de",
        "el",
        "en",
        "es",
        "et",
        "fi",
        "fr",
        "hr",
        "hu",
        "it",
        "lt",
        "lv",
        "mt",
        "nl",
        "pl",
        "pt",
        "ro",
        "ru",
        "sk",
        "sl",
        "sv",
        "uk",
    ]
}


class Canary:
    """See `serflow.asr.engine.Transcriber`.

    Parameters
    ----------
    model : EncDecMultiTaskModel
    pnc : bool
        Ask for punctuation and capitals.
    beam : int
        Width of the beam; 1 is greedy.
    dtype : torch.dtype
        Of the network; features are computed in float32.
    """

    def __init__(
        self, model: EncDecMultiTaskModel, pnc: bool, beam: int = 1, dtype=torch.float32
    ) -> None:
        decode_by(model, beam)
        remember(model.encoder, model.transf_decoder.decoder, greedy=beam == 1)
        self._model = _in_precision(model.eval(), dtype)
        self._model.freeze()
        # As `transcribe()` sets them: no noise is added, and padding ends with the longest input.
        model.preprocessor.featurizer.dither = 0.0
        model.preprocessor.featurizer.pad_to = 0
        quicken(model.preprocessor.featurizer)
        self._pnc = pnc

    @property
    def facts(self) -> dict[str, str]:
        """Device, precision, NeMo's version."""
        parameter = next(self._model.encoder.parameters())
        device = parameter.device.type
        return {
            "device": torch.cuda.get_device_name() if device == "cuda" else device,
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "library": f"nemo {nemo.__version__}",
        }

    def transcribe(self, batch: Sequence[NDArray[np.float32]], language: str) -> list[str]:
        """One text for each array of samples, in order."""
        # Not the model's `transcribe()`: it loads, batches and sets up anew in every call, and has
        # merged different inputs into one text (canary-1b-v2).
        device = next(self._model.parameters()).device
        signal = pad_sequence([torch.from_numpy(samples) for samples in batch], batch_first=True)
        lengths = torch.tensor([len(samples) for samples in batch], device=device)
        prompt = encode_prompt(self._model, language, self._pnc).to(device)
        try:
            with torch.inference_mode():
                _, _, encoded, mask = self._model(
                    input_signal=signal.to(device), input_signal_length=lengths
                )
                found = self._model.decoding.decode_predictions_tensor(
                    encoder_hidden_states=encoded,
                    encoder_input_mask=mask,
                    decoder_input_ids=prompt.repeat(len(batch), 1),
                )
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise
        return [item.text for item in found]


def decode_by(model: EncDecMultiTaskModel, beam: int) -> None:
    """Have a model decode greedily (1), as the paper did, or by a beam; released ones ask for a beam of 1."""
    delta = {"max_generation_delta": MAX_GENERATION_DELTA}
    decoding = {"strategy": "greedy", "greedy": delta}
    if beam > 1:
        width = {"beam_size": beam, "return_best_hypothesis": True, "len_pen": 0.0}
        decoding = {"strategy": "beam", "beam": width | delta}
    model.change_decoding_strategy(OmegaConf.create(decoding))


def encode_prompt(model: EncDecMultiTaskModel, language: str, pnc: bool) -> Tensor:
    """What the decoder is told before it writes, as tokens of shape (1, tokens).

    Parameters
    ----------
    model : EncDecMultiTaskModel
    language : str
        Spoken and written.
    pnc : bool
    """
    user, *others = model.prompt.get_default_dialog_slots()
    slots = user["slots"] | prompt_slots(model.prompt_format, language, pnc)
    return model.prompt.encode_dialog([user | {"slots": slots}, *others])["context_ids"][None]


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
    """Load a Canary from an unpacked folder, a `.nemo` file, or a folder that holds one.

    On a GPU that knows it, the network computes in bfloat16.

    Raises
    ------
    UserError
        There is no such model, it is no Canary, its sample rate is not 16 kHz, or it does not know
        a language.
    """
    torch.set_num_threads(settings.threads)
    _refuse_other_models(settings)
    model = restore(settings)
    kind = type(model).__name__
    if not isinstance(model, EncDecMultiTaskModel) or "canary" not in model.prompt_format:
        raise _not_a_canary(settings, kind)
    if model.cfg.sample_rate != SAMPLE_RATE:
        raise UserError(
            f"asr.{settings.name}: {settings.model} hears {model.cfg.sample_rate} Hz, serflow has "
            "16 kHz; choose another model"
        )
    check_languages(settings, PUBLISHED.get(_released_name(settings)) or languages(model))
    on_gpu = torch.cuda.is_available()
    half = on_gpu and torch.cuda.is_bf16_supported()
    return Canary(
        model.to("cuda" if on_gpu else "cpu"),
        settings.pnc,
        settings.beam,
        torch.bfloat16 if half else torch.float32,
    )


def _in_precision(model: EncDecMultiTaskModel, dtype: torch.dtype) -> EncDecMultiTaskModel:
    """Convert all but the computation of features, whose filters bfloat16 would coarsen."""
    for name, part in model.named_children():
        if name != "preprocessor":
            part.to(dtype)
    # Features are handed on in the precision of this empty tensor.
    features = model.preprocessor
    features.dtype_sentinel_tensor = features.dtype_sentinel_tensor.to(dtype)
    return model


def languages(model: EncDecMultiTaskModel) -> list[str]:
    """Codes of the languages that a Canary transcribes, sorted."""
    tokenizer = model.tokenizer
    if isinstance(tokenizer, AggregateTokenizer):
        # By its parts, for the special tokens of the flash models name all languages of ISO 639-1.
        return sorted(set(tokenizer.langs) - {CANARY_SPECIAL_TOKENIZER})
    # One tokenizer for all, with "<|pnc|>", "<|en|>", "<|0|>", ... among its pieces (canary-1b-v2).
    codes = [re.fullmatch(r"<\|([a-z]{2})\|>", piece) for piece in tokenizer.vocab]
    return sorted(code[1] for code in codes if code)


def _released_name(settings: Settings) -> str:
    """What NVIDIA calls a model that is on record as fetched or unpacked; empty for one's own."""
    record = Path(settings.model) / models.RECORD
    known = models.origin(record).get("origin", "") if record.is_file() else ""
    return known.rpartition("/")[2].removesuffix(".nemo")


def _refuse_other_models(settings: Settings) -> None:
    """Judge an unpacked model by its configuration: its weights may be gigabytes."""
    file = Path(settings.model) / CONFIGURATION
    if file.is_file():
        target = str(OmegaConf.load(file).get("target", ""))
        if not target.endswith(f".{EncDecMultiTaskModel.__name__}"):
            raise _not_a_canary(settings, target.rpartition(".")[2] or "model without a class")


def _not_a_canary(settings: Settings, kind: str) -> UserError:
    return UserError(
        f"asr.{settings.name}: {settings.model} is a {kind}, not a Canary; expected nvidia/canary-1b "
        "or another of its family"
    )


def restore(settings: Settings) -> ASRModel:
    """The model of an unpacked folder, a `.nemo` file, or a folder that holds one, as NeMo has it.

    Raises
    ------
    UserError
        There is no such model.
    """
    path = Path(settings.model).resolve()
    where = f"asr.{settings.name}: {settings.model}"
    if (path / CONFIGURATION).is_file():
        return _restored(path, where)
    archive = path
    if path.is_dir():
        archives = sorted(path.glob("*.nemo"))
        if len(archives) != 1:
            raise UserError(
                f"{where} holds {len(archives)} .nemo files and no {CONFIGURATION}; expected an "
                "unpacked Canary, or a folder with one .nemo file"
            )
        archive = archives[0]
    elif not path.is_file():
        raise UserError(f"{where} does not exist; expected a .nemo file or its unpacked folder")
    # Not by NeMo: its way of unpacking fails before Python 3.11.4.
    with tempfile.TemporaryDirectory() as scratch:
        models.unpack_nemo(archive, Path(scratch) / "model")
        return _restored(Path(scratch) / "model", where)


def _restored(folder: Path, where: str) -> ASRModel:
    connector = SaveRestoreConnector()
    connector.model_extracted_dir = str(folder)
    try:
        return ASRModel.restore_from(
            str(folder), map_location="cpu", save_restore_connector=connector
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"{where} cannot be loaded as a NeMo model: {type(error).__name__}: {reason}"
        ) from error
