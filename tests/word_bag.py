"""A network of a few words' embeddings, trained within a second by plain or recorded steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from serflow.config.families.training import TrainingSettings
from serflow.systems.text_inputs import TokenInputs
from serflow.targets import Targets
from serflow.training.fit import fit_network
from serflow.training.setup import seed_everything
from toy_examples import context


class Bag(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 8)
        self.unused = torch.nn.Parameter(torch.ones(2))
        self.output = torch.nn.Linear(8, 3)

    def forward(self, inputs, mask):
        return self.output((self.embedding(inputs) * mask.unsqueeze(-1)).sum(1))


def train_bag(folder: Path, recorded: bool) -> tuple[list[float], Bag]:
    """Losses of four epochs, effective batches of two, and what has learnt."""
    where = context(folder, 1)
    seed_everything(where)
    rng = np.random.default_rng(0)
    labels = np.arange(43) % 3
    rows = [[int(label) + 1, *rng.integers(5, 20, rng.integers(1, 40))] for label in labels]
    inputs = TokenInputs([list(map(int, row)) for row in rows], pad_id=0, max_tokens=40)
    settings = TrainingSettings(
        epochs=4, batch_size=4, accumulation=2, learning_rate=0.01, cuda_graphs=recorded
    )
    net = Bag()
    targets = Targets(labels, 3, np.empty((len(labels), 0)))
    fitted = fit_network(net, inputs, targets, settings, where)
    return fitted.facts["loss_history"], net
