"""What the trainer does between batches: the end of an epoch, a notice to leave, the progress bar."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import transformers
from tqdm import tqdm
from transformers import TrainerCallback

from serflow import preemption
from serflow.config.families.training import TrainingSettings
from serflow.errors import UserError
from serflow.nets import ranks

# Seconds between progress lines: on a terminal, and in a log file.
TERMINAL_SECONDS, LOG_SECONDS = 0.5, 15.0


class Notice(TrainerCallback):
    """Has a checkpoint saved at the next optimiser step when the job is asked to end.

    Parameters
    ----------
    steps_per_epoch : int
        The last step of an epoch is left to the epoch's end.

    Attributes
    ----------
    given : str or None
        Why the job is to end, once that is to be followed.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch
        self.given: str | None = None

    def on_step_end(self, args, state, control, **kwargs):
        """Look."""
        if state.global_step % self._steps_per_epoch:
            self._look(control)
        return control

    def on_epoch_end(self, args, state, control, **kwargs):
        """Look, before the epoch's own end."""
        self._look(control)
        return control

    def _look(self, control: transformers.TrainerControl) -> None:
        reason = preemption.asked()
        # All have to save the same step, whoever was asked first.
        if ranks.anyone(reason is not None):
            self.given = ranks.first_given(reason)
        control.should_save = self.given is not None


class Resumed(TrainerCallback):
    """Calls `catch_up` once a run that goes on from a checkpoint has its state back."""

    def __init__(self, catch_up: Callable[[], None]) -> None:
        self._catch_up = catch_up

    def on_train_begin(self, args, state, control, **kwargs):
        """A new run has no steps behind it."""
        if state.global_step:
            self._catch_up()


class EpochEnd(TrainerCallback):
    """What happens at the end of an epoch: save, log, evaluate.

    Parameters
    ----------
    settings : TrainingSettings
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings

    def on_epoch_end(self, args, state, control, **kwargs):
        """Order what follows."""
        epoch = round(state.epoch)
        best = self._settings.select == "best"
        control.should_log = True
        control.should_evaluate = best
        # The best epoch is loaded from its checkpoint, so each one needs its own.
        due = best or epoch % self._settings.checkpoint_every == 0
        control.should_save = control.should_save or due
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Stop a diverged training."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise UserError(
                f"the training loss is {loss} in epoch {round(state.epoch)}; lower "
                "training.learning_rate or training.max_grad_norm, or raise training.warmup"
            )


class Progress(TrainerCallback):
    """A progress bar that redraws itself on a terminal and stays readable in a log file.

    Parameters
    ----------
    metric : str
        Name of the score on dev rows.
    """

    def __init__(self, metric: str = "") -> None:
        self._metric = metric
        self._terminal = sys.stderr.isatty()
        self._loss = ""

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the clock."""
        self._first_step = state.global_step
        self._start = self._shown = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        """Redraw the bar now and then."""
        pause = TERMINAL_SECONDS if self._terminal else LOG_SECONDS
        if time.monotonic() - self._shown > pause:
            self._show(state, end="\r" if self._terminal else "\n")

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Print the epoch's loss, or its score on dev rows."""
        if "loss" in logs:
            self._loss = f"loss {logs['loss']:.4f}"
            self._show(state, end="\n")
        elif "eval_score" in logs:
            print(f"  dev {self._metric} {logs['eval_score']:.4f}", file=sys.stderr, flush=True)

    def _show(self, state: transformers.TrainerState, end: str) -> None:
        self._shown = time.monotonic()
        line = tqdm.format_meter(
            state.global_step,
            state.max_steps,
            self._shown - self._start,
            initial=self._first_step,
            prefix=f"epoch {state.epoch:.1f}/{state.num_train_epochs}",
            unit="step",
            postfix=self._loss,
            ncols=100,
            ascii=not self._terminal,
        )
        print(line, file=sys.stderr, end=end, flush=True)
