"""Compiled language models say what plain ones do, under the same names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny_models
from serflow.nets.adaptation import Lora
from serflow.nets.label_tokens import LabelTokenNet, Scorer
from serflow.nets.text import TextNet

torch.set_num_threads(1)

LORA = Lora(2, 4, 0.0, ["q_proj", "v_proj"])
# Words of one and of two tokens, so that a scorer reads on behind the prompt.
LABELS = [[5], [6, 7], [6, 8]]


def texts(*lengths: int) -> dict[str, torch.Tensor]:
    """Prompts that begin alike, right-padded."""
    torch.manual_seed(0)
    inputs = torch.randint(9, 20, (len(lengths), max(lengths)))
    inputs[:, :3] = torch.tensor([9, 10, 11])
    return {"inputs": inputs, "mask": torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]}


def classifier(model: Path, kind: str, compile: bool) -> nn.Module:
    lora = None if kind == "roberta" else LORA
    return TextNet(str(model), 3, "lora" if lora else "full", lora, compile=compile)


def answerer(model: Path, kind: str, compile: bool) -> nn.Module:
    return LabelTokenNet(str(model), LABELS, "lora", LORA, compile=compile)


@pytest.mark.parametrize(
    ("kind", "make"),
    [("llama", classifier), ("roberta", classifier), ("llama", answerer), ("gemma", answerer)],
)
def test_it_is_the_same_for_texts_of_any_length(
    kind: str, make: Callable[..., nn.Module], tmp_path, compiled_graphs
):
    model = getattr(tiny_models, kind)(tmp_path)
    plain, compiled = make(model, kind, False).eval(), make(model, kind, True).eval()
    assert list(compiled.state_dict()) == list(plain.state_dict())
    compiled.load_state_dict(plain.state_dict())
    for lengths in ((7, 5), (12, 9, 4), (6, 6)):
        batch = texts(*lengths)
        found, expected = compiled(**batch), plain(**batch)
        assert torch.allclose(found, expected, atol=1e-5)
        for net, output in ((compiled, found), (plain, expected)):
            net.zero_grad()
            output.square().mean().backward()
        for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
            if theirs.grad is not None:
                assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
    assert compiled_graphs


def test_scoring_with_a_cache_compiles_nothing(tmp_path, compiled_graphs):
    """Each layer would be compiled by itself, for its place in the cache is a number."""
    model = tiny_models.gemma(tmp_path)
    net = answerer(model, "gemma", True).eval()
    with torch.no_grad():
        expected = net(**texts(12, 9, 4))
    compiled_graphs.clear()
    found = Scorer(net)(**texts(12, 9, 4))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not compiled_graphs
