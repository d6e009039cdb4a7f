"""One network is trained on one fold, and what that took is told.

Interrupted at any moment and started again, a run ends with the same weights bit for bit on CPU
(same thread count): batches and examples are functions of (seed, epoch, position), checkpoints hold
all generator states, and only sealed ones are used. They are taken at the end of an epoch, and at the
next optimiser step when the job is asked to end.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import peft
import torch
import transformers
from numpy.typing import NDArray
from torch import nn

from serflow import preemption
from serflow.batching import Batches, count_batches
from serflow.config.families.training import TrainingSettings
from serflow.context import Context
from serflow.errors import UserError
from serflow.nets import ranks, weights
from serflow.targets import Targets
from serflow.training import checkpoints
from serflow.training.interface import Dev, Inputs
from serflow.training.trainer import WEIGHTS, NetworkTrainer, TrainingExamples
from serflow.training_prior import effective_prior

# Apart from the seeds that a study lists.
RANK_SEEDS = 1_000_003


@dataclass(frozen=True)
class Fitted:
    """What training found out.

    Attributes
    ----------
    prior : ndarray of float, shape (n_classes,)
        The prior the network was effectively trained with.
    facts : dict
        JSON facts for the report.
    """

    prior: NDArray[np.float64]
    facts: dict[str, Any]


def class_weights(
    labels: NDArray[np.integer], n_classes: int, mode: str
) -> NDArray[np.float64] | None:
    """Loss weights of the classes, 1 on average over the training rows.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    n_classes : int
    mode : {"none", "inverse"}
        "inverse": inversely proportional to the class's frequency; 0 for a class without rows.
    """
    if mode == "none":
        return None
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    present = counts > 0
    return np.divide(len(labels) / present.sum(), counts, out=np.zeros(n_classes), where=present)


def fit_network(
    net: nn.Module,
    inputs: Inputs,
    targets: Targets,
    settings: TrainingSettings,
    context: Context,
    dev: Dev | None = None,
) -> Fitted:
    """Train `net` in place with weighted cross-entropy, a loss of attributes, or their sum.

    In a job of several processes all of them call this; each is left with the whole trained network.

    Parameters
    ----------
    net : nn.Module
        Gives outputs, shape (batch, n_logits + n_attributes). Built after `seed_everything`.
    inputs : Inputs
    targets : Targets
        Of the inputs, in their order.
    settings : TrainingSettings
    context : Context
        Its checkpoints folder is read and written; stale content in it is removed.
    dev : Dev, optional
        Needed to select the best epoch.

    Returns
    -------
    Fitted

    Raises
    ------
    UserError
        If there are fewer than two utterances, the best epoch is wanted without dev rows, or the
        loss is no longer finite.
    Preempted
        If the job was asked to end; another call with the same arguments goes on.
    """
    if len(targets) < 2:
        raise UserError(f"training needs at least 2 utterances, the fold has {len(targets)}")
    if settings.select == "best" and (dev is None or not len(dev.targets)):
        raise UserError(
            "training.select is 'best', but the fold has no dev rows to choose an epoch on; "
            "use folds with a dev set, or select: last"
        )
    _check_shares(len(targets), settings)
    start = time.monotonic()
    loss_weights = None
    if targets.n_classes:
        loss_weights = class_weights(targets.labels, targets.n_classes, settings.class_weights)
    batches = Batches(
        targets.labels,
        inputs.lengths,
        settings.batch_size,
        context.seed,
        bucketed=settings.batches == "bucketed",
        balanced=settings.balanced_sampling,
    )
    fingerprint = _fingerprint(net, inputs, targets, settings, context, dev)
    resume = ranks.from_first(lambda: checkpoints.newest(context.checkpoints, fingerprint))
    if resume:
        weights.load_trained(net, resume / WEIGHTS)
    sharded = settings.distributed == "fsdp" and ranks.size() > 1
    if ranks.rank():
        # Other dropout in each process.
        transformers.set_seed((context.seed + RANK_SEEDS * ranks.rank()) % 2**32)
    trainer = NetworkTrainer(
        net,
        TrainingExamples(inputs, targets),
        batches,
        settings,
        context,
        loss_weights,
        dev,
        fingerprint,
        sharded,
    )
    with preemption.saving_later():
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    trainer.forget_recordings()
    trainer.hand_over()
    steps_per_epoch = math.ceil(len(batches) / settings.accumulation)
    state = trainer.state
    chosen = state.global_step if settings.select == "last" else state.best_global_step
    if chosen != state.global_step:
        best = checkpoints.path_of(context.checkpoints, chosen)
        weights.load_trained(net, best / WEIGHTS)
    trainable, total = weights.parameter_counts(net)
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    facts = {
        "trainable_parameters": trainable,
        "total_parameters": total,
        "epochs": settings.epochs,
        "steps": state.global_step,
        "chosen_epoch": round(chosen / steps_per_epoch),
        "train_loss": losses[-1],
        "loss_history": losses,
        "dev_history": [
            entry["eval_score"] for entry in state.log_history if "eval_score" in entry
        ],
        "class_weights": None if loss_weights is None else loss_weights.tolist(),
        "balanced_sampling": settings.balanced_sampling,
        "device": trainer.args.device.type,
        "processes": ranks.size(),
        "bf16": trainer.args.bf16,
        "seconds": round(time.monotonic() - start, 3),
        "resumed_at_step": int(resume.name.removeprefix(checkpoints.PREFIX)) if resume else None,
    }
    prior = effective_prior(
        targets.labels,
        len(context.classes),
        class_weight=loss_weights,
        balanced_sampling=settings.balanced_sampling,
    )
    return Fitted(prior, facts)


def _check_shares(n: int, settings: TrainingSettings) -> None:
    """Every process needs a row of every batch."""
    processes = ranks.size()
    if settings.batch_size % processes:
        raise UserError(
            f"training.batch_size is {settings.batch_size}, which {processes} GPUs cannot share "
            f"evenly; expected a multiple of {processes}"
        )
    smallest = n // count_batches(n, settings.batch_size)
    if smallest < processes:
        raise UserError(
            f"{n} training utterances make batches of {smallest}, too few for {processes} GPUs; "
            "lower `gpus`, or raise training.batch_size"
        )


def _fingerprint(
    net: nn.Module,
    inputs: Inputs,
    targets: Targets,
    settings: TrainingSettings,
    context: Context,
    dev: Dev | None,
) -> str:
    """Identity of a run: a checkpoint of any other is not resumed."""
    identity = {
        "net": weights.digest(net),
        "inputs": inputs.digest(),
        "targets": targets.digest(),
        "dev": dev and dev.targets.digest(),
        "settings": settings.model_dump(mode="json"),
        "classes": list(context.classes),
        "seed": context.seed,
        "processes": ranks.size(),
        "versions": [torch.__version__, transformers.__version__, peft.__version__],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
