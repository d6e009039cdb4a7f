"""The one training set-up of all networks: Hugging Face Trainer, resumable and exact.

Interrupted at any moment and started again, a run ends with the same weights bit for bit on CPU
(same thread count): batches and examples are functions of (seed, epoch, position), checkpoints hold
all generator states, and only sealed ones are used. They are taken at the end of an epoch, and at the
next optimiser step when the job is asked to end.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import peft
import torch
import transformers
from accelerate.data_loader import DataLoaderShard
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import PrinterCallback

from serflow import checkpoints, preemption
from serflow.batching import Batches, Draw, alike, count_batches
from serflow.callbacks import EpochEnd, Notice, Progress, Resumed
from serflow.config.families.training import TrainingSettings
from serflow.context import Context
from serflow.cuda_graphs import Replays, set_to_zero
from serflow.errors import UserError
from serflow.files import write_text
from serflow.memory import keep_freed_memory
from serflow.nets import ranks, sharding, weights
from serflow.nets.losses import ATTRIBUTE_LOSSES, concordance_loss, weighted_cross_entropy
from serflow.targets import Targets
from serflow.training_prior import effective_prior

# In a checkpoint, beside what HF Trainer puts there.
WEIGHTS, RUNNING = "trained.safetensors", "running.json"
# Apart from the seeds that a study lists.
RANK_SEEDS = 1_000_003


class Inputs(Protocol):
    """What a family gives the trainer: utterances as network inputs, without labels."""

    varies: bool
    """Whether an utterance's input differs from epoch to epoch (crops), so nothing is kept."""

    def __len__(self) -> int: ...

    def lengths(self, draws: list[Draw]) -> NDArray[np.float64]:
        """Length of each drawn example in any unit, shape (n,)."""

    def item(self, draw: Draw) -> Tensor:
        """The network input of one example, shape (time, ...)."""

    def collate(self, items: list[Tensor], rounded: bool = False) -> dict[str, Tensor]:
        """Pad items to the arguments of the network's forward; `rounded`: to one of few lengths."""

    def digest(self) -> str:
        """Identifies the utterances and their content."""


@dataclass(frozen=True)
class Dev:
    """Rows that may choose the epoch.

    Attributes
    ----------
    outputs : callable
        Gives the network's outputs for the rows, shape (n, n_classes + n_attributes), as it is now.
    targets : Targets
    """

    outputs: Callable[[], NDArray[np.float64]]
    targets: Targets

    @property
    def metric(self) -> str:
        """What chooses: macro-F1 where classes are learnt, else the mean CCC."""
        return "macro-F1" if self.targets.n_classes else "mean CCC"

    def score(self) -> float:
        """How good the network is now, by `metric`; higher is better."""
        found = self.outputs()
        if not self.targets.n_classes:
            reference = torch.from_numpy(self.targets.attributes)
            return -float(concordance_loss(torch.from_numpy(found), reference))
        labels = self.targets.labels
        predicted = found[:, : self.targets.n_classes].argmax(axis=1)
        # Not serflow.metrics: a new metric there must not retrain every system.
        return float(
            f1_score(
                labels, predicted, labels=np.unique(labels), average="macro", zero_division=0.0
            )
        )


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


def seed_everything(context: Context) -> None:
    """What comes before a network is built: seeds, threads, memory, the job's other processes."""
    ranks.join()
    keep_freed_memory()
    torch.set_num_threads(context.threads)
    transformers.set_seed(context.seed)


def device() -> torch.device:
    """Where networks run: this process's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def uses_bf16(settings: TrainingSettings) -> bool:
    """Whether matrix products run in bfloat16: on GPUs that have it, never on CPU."""
    return settings.bf16 == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def records(settings: TrainingSettings) -> bool:
    """Whether training steps are recorded as CUDA graphs: on a GPU, where the settings say so."""
    return settings.cuda_graphs and torch.cuda.is_available()


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
    trainer = _Trainer(
        net,
        _Examples(inputs, targets),
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


@torch.no_grad()
def outputs(
    net: nn.Module,
    function: Callable[..., Tensor],
    inputs: Inputs,
    batch_size: int,
    bf16: bool = False,
) -> NDArray[np.float64]:
    """What a network, or a part of it, says of all inputs, in their order.

    Several processes share the batches, and each is given all outputs.

    Parameters
    ----------
    net : nn.Module
        Set to evaluation mode.
    function : callable
        From a batch to a tensor of shape (batch, size): the network itself, or a method of it.
    inputs : Inputs
    batch_size : int
        At most so many. Batches are of like length; they do not change the result beyond rounding.
    bf16 : bool
        Run matrix products in bfloat16, as in training on a GPU.

    Returns
    -------
    ndarray of float64, shape (n, size)
    """
    net.eval()
    where = next(net.parameters()).device
    draws = [Draw(0, i, i) for i in range(len(inputs))]
    batches = alike(inputs.lengths(draws), batch_size)
    rows: NDArray[np.float64] | None = None
    # The last processes may be left without a batch: they count the columns on the first one.
    for chosen in ranks.share(batches) or batches[:1]:
        batch = inputs.collate([inputs.item(draws[i]) for i in chosen])
        with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
            found = function(**{name: value.to(where) for name, value in batch.items()})
        if rows is None:
            rows = np.zeros((len(draws), found.shape[1]))
        rows[chosen] = found.double().cpu().numpy()
    if not ranks.share(batches):
        rows[:] = 0
    return ranks.summed(rows)


class _Examples(Dataset):
    """Inputs with targets, by batches of Draw: this process's share of the inputs, all targets."""

    def __init__(self, inputs: Inputs, targets: Targets) -> None:
        self.inputs = inputs
        self.targets = targets
        self._labels = torch.tensor(targets.labels, dtype=torch.int64)
        self._attributes = torch.tensor(targets.attributes, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, draws: list[Draw]) -> list[Draw]:
        return draws

    def collate(self, draws: list[Draw], rounded: bool = False) -> dict[str, Tensor]:
        items = [self.inputs.item(draw) for draw in ranks.share(draws)]
        batch = self.inputs.collate(items, rounded=rounded)
        rows = [draw.row for draw in ranks.dealt(draws)]
        return batch | {"labels": self._labels[rows], "attributes": self._attributes[rows]}


class _Trainer(transformers.Trainer):
    """HF Trainer with our batches, optimisers, epoch choice and sealed checkpoints.

    HF's own saving and evaluation strategies stay off: resumed at the end of an epoch, it would
    neither log nor evaluate that epoch, so a kill in between would change the chosen one.
    """

    def __init__(
        self,
        net: nn.Module,
        examples: _Examples,
        batches: Batches,
        settings: TrainingSettings,
        context: Context,
        loss_weights: NDArray[np.float64] | None,
        dev: Dev | None,
        fingerprint: str,
        sharded: bool,
    ) -> None:
        self._steps_per_epoch = math.ceil(len(batches) / settings.accumulation)
        updates = self._steps_per_epoch * settings.epochs
        on_gpu = torch.cuda.is_available()
        args = TrainingArguments(
            output_dir=str(context.checkpoints),
            seed=context.seed,
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch_size // ranks.size(),
            gradient_accumulation_steps=settings.accumulation,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            lr_scheduler_type={"constant": "constant_with_warmup"}.get(
                settings.schedule, settings.schedule
            ),
            warmup_steps=round(settings.warmup * updates),
            max_grad_norm=settings.max_grad_norm,
            bf16=uses_bf16(settings),
            use_cpu=not on_gpu,
            # Whole, unvarying inputs are kept in this process; workers would each keep their own.
            dataloader_num_workers=(
                max(0, context.threads - 1) if on_gpu and examples.inputs.varies else 0
            ),
            dataloader_persistent_workers=False,
            remove_unused_columns=False,
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="epoch",
            logging_nan_inf_filter=False,
            disable_tqdm=True,
            report_to="none",
        )
        # One GPU even where more are visible: HF would otherwise split every batch over all.
        args._n_gpu = min(args.n_gpu, 1)
        self._notice = Notice(self._steps_per_epoch)
        self._net, self._sharded = net, sharded
        if sharded:
            # A copy is sharded, and the network itself waits beside it for what that learns.
            copied = sharding.shard(copy.deepcopy(net), args.device)
            net.to("cpu")
        else:
            copied = net
        ranks.share_batch_statistics(copied)
        replayed = records(settings)
        super().__init__(
            model=copied,
            args=args,
            train_dataset=examples,
            data_collator=partial(examples.collate, rounded=replayed),
            callbacks=[
                self._notice,
                EpochEnd(settings),
                Progress(dev.metric if dev else ""),
                Resumed(self._catch_up),
            ],
        )
        self.remove_callback(PrinterCallback)
        self._replays: Replays | None = None
        if replayed:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            self._replays = Replays(partial(super().training_step, self.model), trained)
            self.model.zero_grad = partial(set_to_zero, trained)
        self._batches = batches
        self._settings = settings
        self._dev = dev
        self._fingerprint = fingerprint
        self._loss_weights = None
        if loss_weights is not None:
            # No utterance is elsewhere, so the weight of that column never counts.
            weight = [*loss_weights, *[0.0] * examples.targets.elsewhere]
            self._loss_weights = torch.tensor(weight, dtype=torch.float32, device=args.device)

    def get_train_dataloader(self) -> DataLoader:
        # Not prepared: accelerate would deal out whole batches, and each is shared here.
        return DataLoaderShard(
            self.train_dataset,
            device=self.args.device,
            batch_sampler=self._batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=preemption.keep_working,
            pin_memory=not self.args.use_cpu,
            # Else Python would wait for the step under way, and the GPU then for Python.
            _non_blocking=True,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            net = self.model if model is None else model
            # Norms and biases are not decayed.
            decayed = set(self.get_decay_parameter_names(net))
            trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
            kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self._settings.optimizer]
            self.optimizer = kind(
                [
                    {
                        "params": [p for name, p in trained if name in decayed],
                        "weight_decay": self._settings.weight_decay,
                    },
                    {
                        "params": [p for name, p in trained if name not in decayed],
                        "weight_decay": 0.0,
                    },
                ],
                lr=self._settings.learning_rate,
                fused=True,  # one pass over the weights
            )
        return self.optimizer

    # What `compute_loss` gives is normalised over the whole effective batch.
    loss_is_scaled_for_ga = True

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], *args: Any) -> int:
        """Examples of the effective batch."""
        return sum(len(batch["labels"]) for batch in batch_samples)

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        num_items_in_batch: int | None = None,
    ) -> Tensor:
        if self._replays is None:
            return super().training_step(model, inputs, num_items_in_batch)
        return self._replays(self._prepare_inputs(inputs), num_items_in_batch)

    def forget_recordings(self) -> None:
        """Let go of recorded steps and of the gradients that they add to."""
        if self._replays is not None:
            self._replays = None
            del self.model.zero_grad
            self.model.zero_grad()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Any:
        labels, reference = inputs.pop("labels"), inputs.pop("attributes")
        found = ranks.gathered(model(**inputs), len(labels))
        n, n_logits = len(labels), self.train_dataset.targets.n_logits
        n_items = num_items_in_batch or n
        loss = found.new_zeros((), dtype=torch.float32)
        if n_logits:
            logits = found[:, :n_logits]
            loss = loss + weighted_cross_entropy(logits, labels, self._loss_weights, n_items)
        if reference.shape[1]:
            settings = self._settings
            measured = ATTRIBUTE_LOSSES[settings.attribute_loss](found[:, n_logits:], reference)
            share = n / n_items * (settings.attribute_weight if n_logits else 1)
            loss = loss + share * measured
        return (loss, found) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the dev rows and remember the best epoch; the first of equals wins."""
        self.hand_over()
        score = self._dev.score()
        if self._sharded:
            self._net.to("cpu")
        if self.state.best_metric is None or score > self.state.best_metric:
            self.state.best_metric = score
            self.state.best_global_step = self.state.global_step
        self.log({"eval_score": score})
        return {"eval_score": score}

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Save first: what is cut off after it, a resumed run does again."""
        if self.control.should_save:
            self._save_checkpoint(self.model, None)
            self.control.should_save = False
        if self._notice.given:
            state = self.state
            raise preemption.Preempted(
                f"{self._notice.given}; saved step {state.global_step} of "
                f"{state.max_steps} (epoch {state.epoch:.2f} of {state.num_train_epochs}); a retry "
                "or requeue goes on from there"
            )
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _catch_up(self) -> None:
        """Bring a resumed run to where the checkpoint was saved, and end an epoch that is over."""
        saved = checkpoints.path_of(Path(self.args.output_dir), self.state.global_step) / RUNNING
        running = json.loads(saved.read_text(encoding="utf-8"))
        self._tr_loss += running["loss"]
        self._globalstep_last_logged = running["logged_at"]
        if self.state.global_step % self._steps_per_epoch == 0:
            self.callback_handler.on_epoch_end(self.args, self.state, self.control)
            self.control.should_save = False
            super()._maybe_log_save_evaluate(
                self._tr_loss, None, self.model, None, self.state.epoch, None, time.time()
            )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        root = Path(self.args.output_dir)
        folder = checkpoints.path_of(root, self.state.global_step)
        running = {"loss": self._tr_loss.item(), "logged_at": self._globalstep_last_logged}
        ranks.wait()
        if self.args.should_save:
            write_text(folder / RUNNING, json.dumps(running))
            checkpoints.seal(folder, self._fingerprint)
            checkpoints.prune(root, best=self.state.best_global_step)
        ranks.wait()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        self._gather()
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            weights.save_trained(self._net, folder / WEIGHTS)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self._sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        folder = Path(output_dir)
        sharding.save_optimizer(self.model, self.optimizer.optimizer, folder / OPTIMIZER_NAME)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER_NAME)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        """Nothing: the network has had its weights back before it was sharded."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self._sharded or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        folder = Path(checkpoint)
        sharding.load_optimizer(self.model, self.optimizer.optimizer, folder / OPTIMIZER_NAME)
        self.lr_scheduler.load_state_dict(torch.load(folder / SCHEDULER_NAME, weights_only=True))

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        if self._sharded:
            return sharding.clip_gradients(model, self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    def hand_over(self) -> None:
        """Leave what has been learnt in the network itself, ready to run."""
        self._gather()
        self._net.to(self.args.device)

    def _gather(self) -> None:
        if self._sharded:
            names = weights.trained_tensors(self._net)
            self._net.load_state_dict(sharding.whole_tensors(self.model, names), strict=False)

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        self.model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.model.set_requires_gradient_sync(True)


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
