"""What jobs ask the machine for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from serflow.config.resources import ResourceClass, on_gpu
from serflow.plan.trainings import Trainings

# A job of Snakemake's runs under two more Snakemake processes, of the job and of its step.
SNAKEMAKE_MB = 300


class Need(NamedTuple):
    """The class of a job, and its GPUs where the class has any."""

    name: ResourceClass
    gpus: int = 1


class Resources(Trainings):
    """See `serflow.plan.Plan`."""

    def training_need(self, wildcards: Any) -> Need:
        """What the training of a system needs."""
        system = self.system(wildcards.study, wildcards.system)
        return Need(system.resources, getattr(system, "gpus", 1))

    def scoring_need(self, wildcards: Any) -> Need:
        """What a trained system needs: one GPU, however many have trained it."""
        return Need(self.system(wildcards.study, wildcards.system).resources)

    def recogniser_need(self, wildcards: Any) -> Need:
        """What a transcription job needs."""
        return Need(self.asr[wildcards.asr].resources)

    def encoder_need(self, wildcards: Any) -> Need:
        """What a frozen encoder needs: a GPU if any system on top of it asks for one."""
        named = [system.resources for system in self.on_top_of(wildcards.encoder)]
        return Need(next(filter(on_gpu, named), named[0]))

    def audio_need(self, wildcards: Any) -> Need:
        """What work on the samples of a whole corpus needs."""
        return Need("cpu-audio")

    def threads(self, need: Callable[[Any], Need]) -> Callable[[Any], int]:
        """A rule's threads."""
        return lambda wildcards: self._cpus(need(wildcards))

    def asks(self, need: Callable[[Any], Need]) -> dict[str, Callable[..., int | None]]:
        """A rule's resources, by name; a function that gives None asks for nothing."""

        def grown(what: str, beside: int = 0) -> Callable[..., int]:
            def value(wildcards: Any, attempt: int) -> int:
                name, gpus = need(wildcards)
                settings = self.site.resource_class(name)
                wanted = getattr(settings, what) * attempt
                most = getattr(settings, f"max_{what}") or wanted
                times = gpus if what == "mem_mb" and name == "multi-gpu" else 1
                return min(wanted, most) * times + beside

            return value

        return {
            "mem_mb": grown("mem_mb", SNAKEMAKE_MB),
            "runtime": grown("runtime"),
            "gpu": lambda wildcards: _gpus(need(wildcards)),
            # Three GPUs of two nodes are no use to one job.
            "nodes": lambda wildcards: 1 if on_gpu(need(wildcards).name) else None,
        }

    def _cpus(self, need: Need) -> int:
        return self.site.resource_class(need.name).cpus * max(1, _gpus(need))


def _gpus(need: Need) -> int:
    return need.gpus if on_gpu(need.name) else 0
