"""Hugging Face Trainer with serflow's batches, optimisers, choice of the epoch and sealed checkpoints."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.data_loader import DataLoaderShard
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import PrinterCallback

from serflow import preemption
from serflow.batching import Batches, Draw
from serflow.config.families.training import TrainingSettings
from serflow.context import Context
from serflow.files import write_text
from serflow.nets import ranks, sharding, weights
from serflow.nets.losses import ATTRIBUTE_LOSSES, weighted_cross_entropy
from serflow.targets import Targets
from serflow.training import checkpoints
from serflow.training.callbacks import EpochEnd, Notice, Progress, Resumed
from serflow.training.cuda_graphs import Replays, set_to_zero
from serflow.training.interface import Dev, Inputs
from serflow.training.setup import records, uses_bf16

# In a checkpoint, beside what HF Trainer puts there.
WEIGHTS, RUNNING = "trained.safetensors", "running.json"


class TrainingExamples(Dataset):
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
        """Arguments of the network, with `labels` and `attributes`; `rounded` as in `Inputs`."""
        items = [self.inputs.item(draw) for draw in ranks.share(draws)]
        batch = self.inputs.collate(items, rounded=rounded)
        rows = [draw.row for draw in ranks.dealt(draws)]
        return batch | {"labels": self._labels[rows], "attributes": self._attributes[rows]}


class NetworkTrainer(transformers.Trainer):
    """HF Trainer with our batches, optimisers, epoch choice and sealed checkpoints.

    HF's own saving and evaluation strategies stay off: resumed at the end of an epoch, it would
    neither log nor evaluate that epoch, so a kill in between would change the chosen one.

    Parameters
    ----------
    net : nn.Module
        Trained in place; sharded, it is left with what was learnt by `hand_over`.
    examples : TrainingExamples
    batches : Batches
    settings : TrainingSettings
    context : Context
        Checkpoints are written to its folder.
    loss_weights : ndarray of float, shape (n_classes,), optional
        Of the cross-entropy.
    dev : Dev, optional
        Scored after every epoch, if there is any.
    fingerprint : str
        Of the run, for its checkpoints.
    sharded : bool
        Whether the processes share the weights (FSDP) and not just the batches.
    """

    def __init__(
        self,
        net: nn.Module,
        examples: TrainingExamples,
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
        """Batches of the epoch that is set, this process's share of each."""
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
        """The settings' optimiser, over what is trained."""
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
        """Forward and backward pass of a batch, recorded and replayed where that is asked for."""
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
        """Cross-entropy of the classes, a loss of the attributes, or their weighted sum."""
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
