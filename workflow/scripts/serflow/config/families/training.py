"""Settings that every trained network shares: the optimiser, batches, epochs, LoRA, adapters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from serflow.config.base import Strict

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Predicts = Literal["categories", "attributes", "both"]
Quantisation = Annotated[
    Literal["none", "nf4"],
    Field(description="nf4: frozen weights in 4 bits (bitsandbytes), products in bfloat16."),
]

Compile = Annotated[
    bool,
    Field(
        description="Compile the model's layers with torch.compile: a minute at first, faster steps "
        "then. On a GPU; needs a C compiler."
    ),
]


class LoraSettings(Strict):
    """Low-rank adaptation of the encoder's linear layers (peft)."""

    rank: Annotated[int, Field(ge=1)] = 32
    alpha: Positive = 32
    dropout: Fraction = 0.05
    target_modules: Annotated[list[str], Field(min_length=1)] = Field(
        description="Name endings of the adapted linear layers, as in peft."
    )


class AdapterSettings(Strict):
    """A trained bottleneck after every layer of the encoder, the identity at first."""

    size: Annotated[int, Field(ge=1)] = Field(128, description="Dimension of the bottlenecks.")


class TrainingSettings(Strict):
    """One optimisation run (Hugging Face Trainer)."""

    epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=2)] = 16
    accumulation: Annotated[int, Field(ge=1)] = Field(
        1, description="Batches per optimiser step: the effective batch is batch_size times this."
    )
    learning_rate: Positive = 1e-4
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Fraction = Field(0.1, description="Share of the steps with a rising learning rate.")
    max_grad_norm: Positive = 1.0
    select: Literal["last", "best"] = Field(
        "last",
        description="Which epoch predicts: the last, or the best on dev rows, by macro-F1, or by the "
        "mean CCC where attributes alone are predicted.",
    )
    checkpoint_every: Annotated[int, Field(ge=1)] = Field(
        1, description="Epochs between checkpoints; a killed job resumes at the last one."
    )
    batches: Literal["bucketed", "random"] = Field(
        "bucketed", description="Batches of like durations, or of random utterances."
    )
    class_weights: Literal["none", "inverse"] = Field(
        "none", description="Weights of the classes in the loss; part of the effective prior."
    )
    attribute_loss: Literal["ccc", "mse"] = Field(
        "ccc",
        description="Of attributes: negative mean concordance correlation of each batch (not of the "
        "effective one: large batches are better than accumulation), or the mean squared error.",
    )
    attribute_weight: Positive = Field(
        1.0, description="Weight of the attributes' loss beside that of the categories."
    )
    balanced_sampling: bool = Field(
        False, description="Draw classes equally often; part of the effective prior."
    )
    bf16: Literal["auto", "never"] = Field("auto", description="bfloat16 where the device has it.")
    gradient_checkpointing: bool = False
    cuda_graphs: bool = Field(
        False,
        description="On one GPU: record the steps of batches of like shape as CUDA graphs, so that small "
        "batches do not wait for Python. Lengths are rounded up by 5 % at most.",
    )
    distributed: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="How several GPUs (`gpus`) train it: each holds the whole network (ddp), or its "
        "share of it and of the optimiser's state (fsdp: less memory, more traffic).",
    )


def check_quantisation(quantisation: str, adaptation: str) -> None:
    """Raise ValueError where weights in 4 bits would have to be trained themselves."""
    if quantisation != "none" and adaptation == "full":
        raise ValueError(
            "weights in 4 bits cannot be trained themselves: set adaptation to 'lora' (or 'frozen')"
        )


def trainings(system: Any) -> list[TrainingSettings]:
    """The optimisation runs of a system of any family, in their order."""
    found = [getattr(phase, "training", None) for phase in getattr(system, "phases", [system])]
    return [training for training in found if training is not None]


def chooses_on_dev(system: Any) -> bool:
    """Whether a system of any family needs dev rows to choose an epoch."""
    return any(training.select == "best" for training in trainings(system))


def check_recordable(system: Any) -> None:
    """Raise ValueError where a system's steps cannot be recorded as CUDA graphs."""
    for training in trainings(system):
        if not training.cuda_graphs:
            continue
        if training.gradient_checkpointing:
            raise ValueError(
                "training.cuda_graphs cannot record gradient checkpointing: leave out one of them"
            )
        if getattr(system, "quantisation", "none") != "none":
            raise ValueError("training.cuda_graphs cannot record weights in 4 bits: leave it out")


def check_gpus(system: Any, gpus: int) -> None:
    """Raise ValueError where several GPUs cannot share a system's training."""
    for training in trainings(system):
        if training.batch_size % gpus:
            raise ValueError(
                f"training.batch_size is {training.batch_size}, which {gpus} GPUs cannot share evenly; "
                f"expected a multiple of {gpus}"
            )
        if training.cuda_graphs and gpus > 1:
            raise ValueError(
                f"training.cuda_graphs records the steps of one GPU, and gpus is {gpus}: leave it out"
            )
        if training.distributed == "fsdp" and gpus == 1:
            raise ValueError(
                "training.distributed is 'fsdp', which shards a network over several GPUs, and gpus "
                "is 1; set gpus, or leave training.distributed out"
            )
        if training.distributed == "fsdp":
            _check_sharded(system)


def _check_sharded(system: Any) -> None:
    if getattr(system, "quantisation", "none") != "none":
        raise ValueError("weights in 4 bits cannot be sharded: set training.distributed to 'ddp'")
    if getattr(system, "compile", False):
        raise ValueError("compiled layers cannot be sharded: set training.distributed to 'ddp'")
