"""`slurm/site.yaml`: what a cluster wants to be told beside memory, time and cores."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from serflow.config.base import Count, Name, Strict
from serflow.config.resources import ResourceClass, on_gpu

# Words of a command line: no quotes, no spaces.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,&|*+\[\]()@-]+$")]
Model = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$")]
# Rules whose jobs are many and alike.
ArrayRule = Literal["transcribe_shard", "train_fold", "embed_fold", "predict_hidden"]


class Place(Strict):
    """Where jobs go."""

    partition: Word | None = Field(None, description="Partition; null: the cluster's default.")
    qos: Word | None = Field(None, description="Quality of service.")
    constraint: Word | None = Field(
        None, description="Features that nodes must have, as in sbatch."
    )


class GpuPlace(Place):
    """Where jobs with GPUs go; what it does not say is as for all jobs."""

    model: Model | None = Field(
        None, description="Type of GPU as `sinfo -o %G` shows it, e.g. a100; null: any."
    )
    request: Literal["gpus", "gres"] = Field(
        "gpus", description="How GPUs are asked for: --gpus=a100:2, or --gres=gpu:a100:2."
    )


class ClusterConfig(Place):
    """One cluster, as all its jobs need it."""

    account: Word | None = Field(None, description="Account that is charged; null: your default.")
    gpu: GpuPlace = Field(GpuPlace(), description="What is different for jobs with GPUs.")
    classes: dict[ResourceClass, GpuPlace] = Field(
        {}, description="What is different for single classes."
    )
    jobs: Count = Field(200, description="Jobs in the queue at once, at most.")
    arrays: list[ArrayRule] = Field(
        [],
        description="Rules whose jobs are submitted as arrays, trainings in one for each class; see "
        "slurm/README.md.",
    )
    environment: dict[Name, str] = Field(
        {}, description="Environment variables of the run and of its jobs, e.g. HF_HOME."
    )

    def place(self, name: ResourceClass) -> GpuPlace:
        """Where jobs of a class go."""
        layers = [Place.model_validate({x: getattr(self, x) for x in Place.model_fields})]
        layers += [self.gpu] if on_gpu(name) else []
        layers += [self.classes[name]] if name in self.classes else []
        merged: dict[str, str] = {}
        for layer in layers:
            merged |= layer.model_dump(exclude_unset=True, exclude_none=True)
        return GpuPlace.model_validate(merged)

    def array_rules(self) -> list[str]:
        """The rules of `arrays`, as workflow/rules names them."""
        # `train_fold` itself has those of gpu-small.
        others = [name for name in get_args(ResourceClass) if name != "gpu-small"]
        classes = [f"train_fold_{name.replace('-', '_')}" for name in others]
        return [*self.arrays, *(classes if "train_fold" in self.arrays else [])]

    def asks(self, name: ResourceClass, gpus: int) -> dict[str, int | str]:
        """What jobs of a class ask for, by the names that Snakemake's Slurm executor knows."""
        place = self.place(name)
        asked: dict[str, int | str | None] = {
            "slurm_account": self.account,
            "slurm_partition": place.partition,
            "qos": place.qos,
            "constraint": place.constraint,
        }
        if gpus and place.request == "gres":
            asked["gres"] = ":".join(["gpu", *([place.model] if place.model else []), str(gpus)])
        else:
            asked["gpu"] = gpus
            asked["gpu_model"] = place.model if gpus else None
        return {key: value for key, value in asked.items() if value is not None}
