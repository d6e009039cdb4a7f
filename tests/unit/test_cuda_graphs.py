"""Recorded steps: when a step is recorded and replayed, and that it could be."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tiny_models
from benchmarks import gpu
from benchmarks.published_models import write_model
from serflow.batching import STEP, Draw, rounded_up
from serflow.config.families.text_classifier import TextClassifierConfig
from serflow.config.families.training import TrainingSettings
from serflow.context import Context
from serflow.nets.losses import weighted_cross_entropy
from serflow.systems.text_inputs import TokenInputs
from serflow.training import cuda_graphs, trainer
from serflow.training.setup import records
from serflow.training.trainer import TrainingExamples
from word_bag import train_bag

torch.set_num_threads(1)


class Recording:
    """In place of a CUDA graph: keeps the addresses of its inputs, and runs the step itself."""

    made = 0

    def __init__(self, step, batch, n_items, pool) -> None:
        type(self).made += 1
        self._inputs = {name: tensor.clone() for name, tensor in batch.items()}
        self._step, self._n_items = step, n_items

    def __call__(self, batch):
        for name, tensor in batch.items():
            self._inputs[name].copy_(tensor)
        return self._step(dict(self._inputs), self._n_items)


@pytest.fixture
def recordings(monkeypatch) -> type[Recording]:
    monkeypatch.setattr(cuda_graphs, "_Recording", Recording)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(Recording, "made", 0)
    return Recording


def test_a_shape_is_recorded_at_its_second_batch_and_replayed_with_other_values(recordings):
    ran = []
    weight = torch.nn.Parameter(torch.ones(()))

    def step(batch, n_items):
        ran.append(n_items)
        loss = weight * batch["inputs"].sum() / n_items
        loss.backward()
        return loss.detach()

    replays = cuda_graphs.Replays(step, [weight])
    made, expected = [], 0.0
    for value, size, n_items in [(1, 4, 2), (2, 4, 2), (3, 4, 2), (4, 5, 2), (5, 4, 3), (6, 4, 2)]:
        loss = replays({"inputs": torch.full((size,), float(value))}, n_items)
        expected += value * size / n_items
        assert loss == value * size / n_items
        assert weight.grad == pytest.approx(expected)
        made.append(recordings.made)
    # Another length and another effective batch are other steps.
    assert made == [0, 1, 1, 1, 1, 1]
    assert len(ran) == 6


def test_training_by_recorded_steps_learns_the_same(tmp_path, monkeypatch, recordings):
    """Gradients are added in place, over two batches too, and zeroed in place between steps."""
    losses, net = train_bag(tmp_path / "plain", recorded=False)
    assert not recordings.made
    monkeypatch.setattr(trainer, "records", lambda settings: True)
    again, other = train_bag(tmp_path / "recorded", recorded=True)
    assert recordings.made
    assert np.allclose(losses, again, rtol=0, atol=1e-6)
    for ours, theirs in zip(other.parameters(), net.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)
        # No memory is left behind.
        assert ours.grad is None


def test_without_a_gpu_nothing_is_recorded(tmp_path, monkeypatch, recordings):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not records(TrainingSettings(cuda_graphs=True))


def test_lengths_are_rounded_up_to_few_and_by_little():
    lengths = range(1, 50_000)
    rounded = [rounded_up(length) for length in lengths]
    assert all(a <= b < a * STEP + 1 for a, b in zip(lengths, rounded, strict=True))
    assert rounded == sorted(rounded)
    assert len(set(rounded)) <= 20 + math.log(50_000 / 20, STEP)
    assert all(rounded_up(length) == length for length in set(rounded))


def test_no_text_is_padded_beyond_the_models_positions():
    for length, limit, padded in ((103, 104, 104), (103, 512, rounded_up(103))):
        inputs = TokenInputs([[1] * length, [1] * 5], pad_id=7, max_tokens=limit)
        batch = inputs.collate([inputs.item(Draw(0, i, i)) for i in range(2)], rounded=True)
        assert batch["inputs"].shape == (2, padded)
        assert batch["inputs"][1, 5:].eq(7).all()
        assert batch["mask"].sum(dim=1).tolist() == [length, 5]
    assert rounded_up(103) > 104


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": {"gradient_checkpointing": True}}, "cannot record gradient checkpointing"),
        ({"quantisation": "nf4"}, "cannot record weights in 4 bits"),
        ({"gpus": 2, "resources": "multi-gpu"}, "records the steps of one GPU, and gpus is 2"),
    ],
)
def test_what_cannot_be_recorded_is_refused(changed, message):
    block = {
        "family": "text_classifier",
        "model": "m",
        "adaptation": "lora",
        "lora": {"target_modules": ["q_proj"]},
    }
    recorded = {"cuda_graphs": True} | changed.get("training", {})
    with pytest.raises(ValidationError, match=message):
        TextClassifierConfig.model_validate(block | changed | {"training": recorded})


class Waits(TorchDispatchMode):
    """Finds what a graph cannot hold: operations whose result Python waits for, or copies to the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        name = str(function)
        # A number that is put where a mask of truth values says is sent along with the kernel.
        put = name.startswith("aten.index_put") and tensors[1].dtype != torch.bool
        number = put and any(tensor.ndim == 0 for tensor in tensors)
        if number or len({tensor.device.type for tensor in tensors}) > 1:
            self.found.append(name)
        return result


@pytest.mark.parametrize("name", [n for n, system in gpu.SYSTEMS.items() if system.recordable])
def test_no_step_of_a_published_system_waits_for_the_gpu(name, tmp_path, monkeypatch):
    """On the meta device, which has no values to wait for: asking for one is an error there."""
    # transformers looks into masks unless it is recorded, or compiled.
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    # Which formats the meta device multiplies in is not known to torch.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    system = gpu.SYSTEMS[name]
    write_model(system.model, tmp_path / "model", tiny=True)
    where = Context(tiny_models.WORDS[: system.n_classes], 0, tmp_path, 1)
    net, inputs, targets, _, _ = gpu.prepared(system, tmp_path / "model", 8, where)
    examples = TrainingExamples(inputs, targets)
    batch = examples.collate([Draw(0, i, i, 0) for i in range(4)], rounded=True)
    batch = {name: tensor.to("meta") for name, tensor in batch.items()}
    labels, _ = batch.pop("labels"), batch.pop("attributes")
    net.train().to("meta")
    with Waits() as waits:
        logits = net(**batch)[:, : targets.n_logits]
        weighted_cross_entropy(logits, labels, None, 4).backward()
    assert waits.found == []
