"""The released checkpoint of a SONAR speech encoder, turned into a folder for `SpeechEncoder`.

The English one is https://dl.fbaipublicfiles.com/SONAR/spenc.eng.pt; see SONAR's LICENSE.md for the
terms. It was trained in fairseq and keeps fairseq's names; fairseq2, which reads it, needs another
torch than this workflow.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import SeamlessM4TFeatureExtractor

from serflow.errors import UserError, name_some
from serflow.models import made_whole
from serflow.nets.sonar import SonarSpeechConfig, SonarSpeechEncoder

PREFIX = "encoder.w2v_model."
# The frames do not depend on these: the pooler, pre-training's mask, and a positional convolution
# that fairseq builds and never calls where positions are relative.
UNUSED = re.compile(rf"decoder\.|{re.escape(PREFIX)}(mask_emb$|encoder\.pos_conv\.)")
# From our names to fairseq's, as `convert_sonar_speech_checkpoint` in SONAR's
# sonar/models/sonar_speech/handler.py lists them.
RENAMED = (
    (r"^feature_projection\.layer_norm\.", "layer_norm."),
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"\.(ffn[12])_layer_norm\.", r".\1.layer_norm."),
    (r"\.intermediate_dense\.", ".w_1."),
    (r"\.output_dense\.", ".w_2."),
)
STACKED = 2  # frames of the filter bank in one input


def convert(checkpoint: str | Path, folder: str | Path) -> None:
    """Write `folder` with the encoder's weights, configuration and feature extractor.

    Nothing in the checkpoint is executed, and values and their precision are kept.

    Parameters
    ----------
    checkpoint : path
        As released, for example `spenc.eng.pt`.
    folder : path
        Replaced when the new one is complete; `model.json` has the checkpoint's name and SHA-256.

    Raises
    ------
    UserError
        The file cannot be read without running code, or its tensors are not those of a SONAR
        speech encoder; names them.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    tensors = {name: t for name, t in _read(checkpoint).items() if not UNUSED.match(name)}
    config = _sizes(checkpoint, tensors)
    with torch.device("meta"):
        model = SonarSpeechEncoder(config)
    names = {original_name(name): name for name in model.state_dict()}
    shapes = {original_name(name): tuple(t.shape) for name, t in model.state_dict().items()}
    _check(checkpoint, {name: tuple(t.shape) for name, t in tensors.items()}, shapes)
    bins = config.feature_projection_input_dim // STACKED
    extractor = SeamlessM4TFeatureExtractor(feature_size=bins, num_mel_bins=bins, stride=STACKED)
    with checkpoint.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with made_whole(folder, checkpoint.name, sha256=sha256) as partial:
        save_file(
            {names[name]: t.contiguous() for name, t in tensors.items()},
            partial / "model.safetensors",
            metadata={"format": "pt"},
        )
        config.save_pretrained(partial)
        extractor.save_pretrained(partial)


def original_name(name: str) -> str:
    """The released checkpoint's name of one of `SonarSpeechEncoder`'s tensors."""
    for ours, theirs in RENAMED:
        name = re.sub(ours, theirs, name)
    return PREFIX + name


def _read(checkpoint: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(
            checkpoint, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(checkpoint)
        )
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{checkpoint} is not read: it is damaged, or holds more than tensors and plain values"
            f"{f' ({named[1]})' if named else ''}, which could run code on this machine; use the "
            "checkpoint as SONAR's authors released it"
        ) from None
    except Exception as error:  # a damaged file raises nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot read {checkpoint} as a torch checkpoint ({reason}); is it there, and whole?"
        ) from error
    tensors = loaded.get("model") if isinstance(loaded, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise UserError(
            f"{checkpoint} is no SONAR speech encoder: expected is a dictionary with tensors by "
            "name under 'model'"
        )
    return tensors


def _sizes(checkpoint: Path, tensors: dict[str, Tensor]) -> SonarSpeechConfig:
    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if PREFIX + name not in tensors:
            raise UserError(
                f"{checkpoint} is no SONAR speech encoder: it has no tensor '{PREFIX + name}'; it "
                f"holds {name_some(tensors, 3) or 'none of an encoder'}"
            )
        found = tuple(tensors[PREFIX + name].shape)
        if len(found) != dimensions:
            raise UserError(
                f"{checkpoint}: '{PREFIX + name}' has shape {found}, expected are {dimensions} "
                "dimensions"
            )
        return found

    layer = "encoder.layers.0."
    hidden, inputs = shape("post_extract_proj.weight", 2)
    inner, _ = shape(layer + "ffn1.w_1.weight", 2)
    heads, _ = shape(layer + "self_attn.pos_bias_u", 2)
    *_, kernel = shape(layer + "conv_module.depthwise_conv.weight", 3)
    layers = {m[1] for m in map(re.compile(r".*\.encoder\.layers\.(\d+)\.").match, tensors) if m}
    sizes = {
        "feature_projection_input_dim": inputs,
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "conv_depthwise_kernel_size": kernel,
    }
    if (
        min(sizes.values()) < 1
        or inputs % STACKED
        or hidden % 2
        or hidden % heads
        or not kernel % 2
    ):
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            f"{checkpoint}: no encoder has the sizes {listed}; expected are inputs of {STACKED} "
            "frames, an even hidden size divisible by the heads, and an odd kernel"
        )
    return SonarSpeechConfig(**sizes)


def _check(
    checkpoint: Path,
    found: dict[str, tuple[int, ...]],
    expected: dict[str, tuple[int, ...]],
) -> None:
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    wrong = [
        f"{name} has shape {found[name]}, expected is {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    faults = []
    if missing:
        faults.append(f"missing tensors ({len(missing)}): {name_some(sorted(missing))}")
    if unknown:
        faults.append(f"unknown tensors ({len(unknown)}): {name_some(sorted(unknown))}")
    if wrong:
        faults.append(name_some(wrong, 3))
    if faults:
        raise UserError(
            f"{checkpoint} is no SONAR speech encoder as released; " + "; ".join(faults)
        )
