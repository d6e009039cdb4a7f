"""`config.yaml`: which studies to run and where this machine keeps things. No science."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from serflow.config.base import Seeds, Strict
from serflow.config.resources import CLASSES, ClassChanges, ClassSettings, ResourceClass


class SiteConfig(Strict):
    """The machine-level settings of `config.yaml`."""

    studies: Annotated[list[str], Field(min_length=1)] = Field(
        ["demo"], description="Studies to run: names of files in studies/, without .yaml."
    )
    systems: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Run these systems of the studies alone, with the fusions that they suffice for; "
        "null runs all.",
    )
    paths: dict[str, str | None] = Field(
        {},
        description="Folder of each corpus that lies on this machine: corpus name -> path. Open "
        "corpora without one are downloaded.",
    )
    downloads: str = Field(
        "results/downloads",
        description="Where downloaded archives are kept; an archive put there by hand is verified "
        "and used.",
    )
    models: dict[str, str] = Field(
        {}, description="Hub id -> local folder, for machines that cannot reach the hub."
    )
    seeds: Seeds | None = Field(
        None, description="Overrides the seeds of every study; null keeps each study's own."
    )
    shards: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Transcription jobs per corpus; null keeps each study's own."
    )
    scratch: str | None = Field(
        None,
        description="A folder on the disk of the machine that a job runs on, for temporary files and "
        "for copies of packed audio; environment variables are the job's own, as $SLURM_TMPDIR.",
    )
    resources: dict[ResourceClass, ClassChanges] = Field(
        {}, description="Changes to what a class of jobs asks for: class -> values."
    )

    @model_validator(mode="after")
    def _classes_hold_with_their_changes(self) -> SiteConfig:
        for name, changes in self.resources.items():
            changes.applied(name)
        return self

    def resource_class(self, name: ResourceClass) -> ClassSettings:
        """What jobs of a class ask for on this machine."""
        return self.resources[name].applied(name) if name in self.resources else CLASSES[name]
