"""Classes of jobs by what they ask a machine for: set once, named by systems, recognisers and rules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serflow.config.base import Count, Strict
from serflow.config.families.training import check_gpus, check_recordable
from serflow.config.grids import System

CpuClass = Literal["cpu-small", "cpu-audio"]
SingleClass = Literal["cpu-small", "cpu-audio", "gpu-small", "gpu-large"]
ResourceClass = Literal["cpu-small", "cpu-audio", "gpu-small", "gpu-large", "multi-gpu"]

Megabytes = Annotated[int, Field(ge=100)]


class ClassSettings(Strict):
    """What a job of one class asks for at its first attempt; of multi-gpu, for each of its GPUs."""

    cpus: Count = Field(description="CPU cores, and with them the job's threads.")
    mem_mb: Megabytes = Field(
        description="Memory of the job itself; what Snakemake needs beside it is added. The second "
        "attempt asks for twice as much, the third for three times."
    )
    runtime: Count = Field(description="Minutes; they grow with the attempts as mem_mb does.")
    max_mem_mb: Megabytes | None = Field(
        None, description="No attempt asks for more memory; null: no bound."
    )
    max_runtime: Count | None = Field(
        None, description="No attempt asks for more minutes; null: no bound."
    )

    @model_validator(mode="after")
    def _bounds_are_above(self) -> ClassSettings:
        for name in ("mem_mb", "runtime"):
            first, most = getattr(self, name), getattr(self, f"max_{name}")
            if most is not None and most < first:
                raise ValueError(f"max_{name} is {most}, below the {first} of the first attempt")
        return self


# slurm/README.md says what each is for; a test holds its table to these numbers.
CLASSES: dict[ResourceClass, ClassSettings] = {
    "cpu-small": ClassSettings(cpus=1, mem_mb=8_000, runtime=240),
    "cpu-audio": ClassSettings(cpus=16, mem_mb=32_000, runtime=240),
    "gpu-small": ClassSettings(cpus=4, mem_mb=16_000, runtime=480),
    "gpu-large": ClassSettings(cpus=8, mem_mb=48_000, runtime=1440),
    "multi-gpu": ClassSettings(cpus=8, mem_mb=48_000, runtime=1440),
}


class ClassChanges(Strict):
    """What `config.yaml` changes of one class; what it does not name stays as it is."""

    cpus: Count | None = None
    mem_mb: Megabytes | None = None
    runtime: Count | None = None
    max_mem_mb: Megabytes | None = None
    max_runtime: Count | None = None

    def applied(self, name: ResourceClass) -> ClassSettings:
        """The class with these changes."""
        return ClassSettings.model_validate(
            CLASSES[name].model_dump() | self.model_dump(exclude_none=True)
        )


def on_gpu(name: ResourceClass) -> bool:
    """Whether jobs of a class ask for a GPU."""
    return not name.startswith("cpu-")


class TrainedSystem(System):
    """What all families that train a network share: where they run."""

    resources: ResourceClass = Field("gpu-small", description="What its jobs ask for.")
    gpus: Count = Field(
        1, description="GPUs of one node that train it together; several need the class multi-gpu."
    )

    @model_validator(mode="after")
    def _several_gpus_have_a_class_of_their_own(self) -> TrainedSystem:
        if (self.resources == "multi-gpu") != (self.gpus > 1):
            raise ValueError(
                f"resources is {self.resources!r} and gpus is {self.gpus}; expected multi-gpu for "
                "two GPUs or more, and another class for one"
            )
        check_gpus(self, self.gpus)
        check_recordable(self)
        return self
