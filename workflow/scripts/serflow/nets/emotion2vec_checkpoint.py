"""The folder in which emotion2vec is released (FunASR's config.yaml and .pt), read as it is.

For example https://huggingface.co/emotion2vec/emotion2vec_base. The decoder of the pre-training and
the classifier of the "plus" models are left out.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from serflow.errors import UserError, name_some
from serflow.nets.emotion2vec import Emotion2vecConfig

AUDIO = "modality_encoders.AUDIO."
# From FunASR's names to ours; indices of blocks and of the fused projections are treated below.
RENAMED = (
    (r"^local_encoder\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (
        r"^local_encoder\.conv_layers\.(\d+)\.2\.1\.",
        r"feature_extractor.conv_layers.\1.layer_norm.",
    ),
    (r"^project_features\.1\.", "feature_projection.layer_norm."),
    (r"^project_features\.2\.", "feature_projection.projection."),
    (r"^context_encoder\.norm\.", "layer_norm."),
    (r"\.norm1\.", ".layer_norm."),
    (r"\.norm2\.", ".final_layer_norm."),
    (r"\.attn\.proj\.", ".attention.out_proj."),
    (r"\.mlp\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.mlp\.fc2\.", ".feed_forward.output_dense."),
)
# Settings under which the network would be another than ours.
FIXED = {"layer_norm_first": False, "normalize": True, "norm_affine": True, "dropout_input": 0.0}
FIXED_AUDIO = {
    "extractor_mode": "layer_norm",
    "use_alibi_encoder": True,
    "learned_alibi_scale_per_layer": False,
    "conv_pos_pre_ln": False,
}


def is_released(source: str) -> bool:
    """Whether `source` is a folder as FunASR releases it, not one of transformers."""
    folder = Path(source)
    if not (folder / "config.yaml").is_file() or (folder / "config.json").exists():
        return False
    return _settings(folder).get("model") == "Emotion2vec"


def read_config(source: str) -> Emotion2vecConfig:
    """The sizes of a released model.

    Raises
    ------
    UserError
        If it has a setting under which the network is another.
    """
    settings = _settings(Path(source))["model_conf"]
    audio = settings["modalities"]["audio"]
    for block, fixed in ((settings, FIXED), (audio, FIXED_AUDIO)):
        for name, expected in fixed.items():
            if block.get(name, expected) != expected:
                raise UserError(
                    f"{source}/config.yaml: {name} is {block[name]}, expected is {expected}; this "
                    "emotion2vec is built differently from those that are read here"
                )
    convolutions = _convolutions(audio["feature_encoder_spec"])
    hidden, depth = settings["embed_dim"], audio["conv_pos_depth"]
    return Emotion2vecConfig(
        hidden_size=hidden,
        num_hidden_layers=audio["prenet_depth"] + settings["depth"],
        num_attention_heads=settings["num_heads"],
        intermediate_size=int(hidden * settings["mlp_ratio"]),
        hidden_dropout=settings["encoder_dropout"],
        attention_dropout=settings["attention_dropout"],
        activation_dropout=settings["activation_dropout"],
        input_dropout=audio["prenet_dropout"],
        layer_norm_eps=float(settings["norm_eps"]),  # YAML reads 1e-05 as text
        conv_dim=[dim for dim, _, _ in convolutions],
        conv_kernel=[kernel for _, kernel, _ in convolutions],
        conv_stride=[stride for _, _, stride in convolutions],
        num_conv_pos_embeddings=depth,
        conv_pos_kernel_size=max(3, audio["conv_pos_width"] // depth),
        num_conv_pos_embedding_groups=audio["conv_pos_groups"],
        num_extra_tokens=audio["num_extra_tokens"],
    )


def read_tensors(source: str) -> dict[str, Tensor]:
    """The tensors of a released model under the names of `Emotion2vecEncoder`.

    Raises
    ------
    UserError
        If there is not one checkpoint, or it cannot be read without running code.
    """
    folder = Path(source)
    settings = _settings(folder)
    prenet = settings["model_conf"]["modalities"]["audio"]["prenet_depth"]
    heads = settings["model_conf"]["num_heads"]
    tensors: dict[str, Tensor] = {}
    for name, tensor in _read(folder, settings).items():
        name = name.removeprefix(AUDIO)
        if name == "extra_tokens":
            tensors[name] = tensor
        elif name == "alibi_scale":  # shape (1, 1, heads or 1, 1, 1)
            tensors[name] = tensor.reshape(-1).expand(heads).clone()
        elif match := re.match(r"relative_positional_encoder\.(\d+)\.0\.(\w+)", name):
            tensors[f"position_layers.{int(match[1]) - 1}.conv.{match[2]}"] = tensor
        else:
            name = re.sub(r"^context_encoder\.blocks\.(\d+)", r"layers.\1", name)
            name = re.sub(r"^blocks\.(\d+)", lambda m: f"layers.{prenet + int(m[1])}", name)
            for theirs, ours in RENAMED:
                name = re.sub(theirs, ours, name)
            if ".attn.qkv." in name:
                for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                    tensors[name.replace(".attn.qkv.", f".attention.{letter}_proj.")] = part.clone()
            else:
                tensors[name] = tensor
    return tensors


def _settings(folder: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except yaml.YAMLError:  # another program's
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _convolutions(spec: str) -> list[tuple[int, int, int]]:
    """(channels, kernel, stride) of every layer, of fairseq's "[(512, 10, 5)] + [(512, 3, 2)] * 4".

    FunASR evaluates this text as Python.
    """
    layers: list[tuple[int, int, int]] = []
    for term in spec.replace(" ", "").split("+"):
        match = re.fullmatch(r"\[\((\d+),(\d+),(\d+)\)\](?:\*(\d+))?", term)
        if not match:
            raise UserError(
                f"cannot read the convolutions '{spec}' of an emotion2vec's config.yaml"
            )
        layers += [(int(match[1]), int(match[2]), int(match[3]))] * int(match[4] or 1)
    return layers


def _read(folder: Path, settings: dict[str, Any]) -> dict[str, Tensor]:
    named = folder / "model.pt"
    found = [named] if named.exists() else sorted(folder.glob("*.pt"))
    if len(found) != 1:
        raise UserError(
            f"{folder} has {name_some([file.name for file in found], 4) or 'no .pt file'}; expected "
            "is config.yaml with the one checkpoint that belongs to it"
        )
    try:
        loaded = torch.load(found[0], map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{found[0]} is not read: it is damaged, or holds more than tensors and plain values"
            f"{f' ({code[1]})' if code else ''}, which could run code on this machine. Where you "
            "trust it, load it with torch and save the dictionary of its tensors alone."
        ) from None
    for key in ("state_dict", "model_state_dict", "model"):  # the order in which FunASR looks
        if key in loaded:
            loaded = loaded[key]
    # The "plus" models have a prefix, which config.yaml names as pairs of theirs and FunASR's.
    scopes = settings.get("scope_map") or []
    scopes = scopes.split(",") if isinstance(scopes, str) else scopes
    for prefix in (str(scope) for scope in [*scopes[::2], "module."]):
        loaded = {name.removeprefix(prefix): tensor for name, tensor in loaded.items()}
    return {n: t for n, t in loaded.items() if n.startswith(("blocks.", AUDIO))}
