"""What jobs ask the machine for."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

from serflow.config.resources import ResourceClass, on_gpu
from serflow.config.submission import HIDDEN
from serflow.errors import UserError
from serflow.plan.models import recognisers
from serflow.plan.trainings import Trainings

# Two more Snakemake processes run beside a job, its own and that of its step: 240 MB, measured in the cgroup.
SNAKEMAKE_MB = 400
# What `ClusterConfig.asks` may name.
ASKED = ("gpu", "gpu_model", "gres", "slurm_account", "slurm_partition", "qos", "constraint")


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

    def asks(self, need: Callable[[Any], Need]) -> dict[str, Callable[..., int | str | None]]:
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

        def of_cluster(key: str) -> Callable[[Any], int | str | None]:
            def value(wildcards: Any) -> int | str | None:
                wanted = need(wildcards)
                return self.cluster.asks(wanted.name, self.gpus(wanted)).get(key)

            return value

        asked = {
            "mem_mb": grown("mem_mb", SNAKEMAKE_MB),
            "runtime": grown("runtime"),
            # Three GPUs of two nodes are no use to one job (plugin issue 459).
            "nodes": lambda wildcards: 1 if on_gpu(need(wildcards).name) else None,
        }
        # Snakemake calls each for each job, so what no job of this run has is left out.
        return asked | {key: of_cluster(key) for key in ASKED if key in self._asked_of_cluster}

    @cached_property
    def _asked_of_cluster(self) -> set[str]:
        return {
            key for x in self.needs().values() for key in self.cluster.asks(x.name, self.gpus(x))
        }

    def needs(self) -> dict[str, Need]:
        """What the jobs of this run need: rule, study and name -> need."""
        found = {}
        if self.corpora:
            for rule in ("pack_audio", "extract_functionals", "extract_fingerprints"):
                found[rule] = self.audio_need(None)
        for name in recognisers(self.asr):
            found[f"transcribe_shard {name}"] = self.recogniser_need(SimpleNamespace(asr=name))
        for encoder in self.encoders():
            wildcards = SimpleNamespace(encoder=encoder)
            found[f"extract_layer_means {encoder}"] = self.encoder_need(wildcards)
        for study, config in self.studies.items():
            read = {getattr(x, "embeddings", None) for x in config.systems.values()}
            for system, settings in config.systems.items():
                if settings.family == "given":
                    continue
                wildcards = SimpleNamespace(study=study, system=system)
                found[f"train_fold {study} {system}"] = self.training_need(wildcards)
                if system in read:
                    found[f"embed_fold {study} {system}"] = self.scoring_need(wildcards)
                if config.submission and config.submission.fold == HIDDEN:
                    found[f"predict_hidden {study} {system}"] = self.scoring_need(wildcards)
        return found

    def of_class(self, name: ResourceClass) -> str:
        """Where trainings are submitted as arrays: a pattern of the paths of one class, from the study on.

        The plugin gives all jobs of an array what its first job asks for, and makes arrays of the jobs
        of one rule, so that each class has a rule of its own. Without arrays one rule has all paths.
        """
        if "train_fold" not in self.cluster.arrays:
            return ""
        found = []
        for study, config in self.studies.items():
            systems = {**config.systems, **config.trained}
            named = [
                re.escape(system)
                for system, settings in systems.items()
                if settings.family != "given" and settings.resources == name
            ]
            if named:
                path = f"{re.escape(study)}/seed-[0-9]+/systems/(?:{'|'.join(named)})/"
                found.append(path)
        return f"(?={'|'.join(found)})" if found else "(?!)"

    def _check_arrays(self) -> None:
        """The plugin gives all jobs of an array what its first job asks for (plugin pull 174)."""
        groups: dict[tuple[str, str], dict[str, Need]] = {}
        for job, need in self.needs().items():
            rule = job.split()[0]
            if rule in self.cluster.arrays:
                apart = need.name if rule == "train_fold" else ""
                groups.setdefault((rule, apart), {})[job] = need
        for (rule, _), named in groups.items():
            (first, one), *rest = named.items()
            for other, two in rest:
                if two != one:
                    raise UserError(
                        f"slurm/site.yaml: arrays names {rule}, but its jobs ask for different "
                        f"things: {first} is {_said(one)}, {other} is {_said(two)}. Run these systems "
                        "one after the other (--config 'systems=[...]'), or take the rule out of arrays"
                    )

    @staticmethod
    def gpus(need: Need) -> int:
        """GPUs of a job."""
        return need.gpus if on_gpu(need.name) else 0

    def _cpus(self, need: Need) -> int:
        return self.site.resource_class(need.name).cpus * max(1, self.gpus(need))


def _said(need: Need) -> str:
    return f"{need.name} with {need.gpus} GPUs" if need.gpus > 1 else need.name
