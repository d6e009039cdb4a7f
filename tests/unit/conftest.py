"""Fixtures that several unit tests share."""

from __future__ import annotations

from functools import partial

import pytest
import torch


@pytest.fixture
def compiled_graphs(monkeypatch) -> list[torch.fx.GraphModule]:
    """What is given to the compiler, which hands it back as it is."""
    seen: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):
        seen.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return seen
