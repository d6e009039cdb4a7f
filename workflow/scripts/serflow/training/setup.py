"""Where networks run: seeds, threads, memory, the device and its precision."""

from __future__ import annotations

import torch
import transformers

from serflow.config.families.training import TrainingSettings
from serflow.context import Context
from serflow.nets import ranks
from serflow.training.memory import keep_freed_memory


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
