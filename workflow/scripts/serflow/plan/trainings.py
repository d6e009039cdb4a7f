"""Trained systems: what each fold is given, and the points of grids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from serflow.config.grids import name_of, points_of
from serflow.config.submission import FINAL, HIDDEN
from serflow.digests import canonical
from serflow.plan.models import encoder_key
from serflow.plan.transcriptions import Transcriptions


class Trainings(Transcriptions):
    """See `serflow.plan.Plan`."""

    def system(self, study: str, name: str) -> Any:
        """The settings of one system, or of one point of a grid."""
        config = self.studies[study]
        return config.trained.get(name) or config.systems[name]

    def fold_inputs(self, wildcards: Any) -> dict[str, str | list[str]]:
        """Input function: the tables that a system's family asks for, of the study's corpora."""
        study = self.studies[wildcards.study]
        system = self.system(wildcards.study, wildcards.system)
        apart = f"{wildcards.fold}_" if wildcards.fold in (FINAL, HIDDEN) else ""
        rows = f"results/{wildcards.study}/{apart}"
        inputs: dict[str, str | list[str]] = {
            "utterances": f"{rows}utterances.parquet",
            "folds": f"{rows}folds.parquet",
            "models": [self.model_file(model) for model in system.models()],
        }
        if wildcards.fold == FINAL and system.grid:
            base = f"results/{wildcards.study}/seed-{wildcards.seed}/grids"
            inputs["grid"] = f"{base}/{wildcards.system}.json"
        corpora = [f"results/corpora/{corpus}" for corpus in study.corpora]
        if "audio" in system.inputs:
            inputs["samples"] = [f"{corpus}/audio.i16" for corpus in corpora]
            inputs["index"] = [f"{corpus}/audio.parquet" for corpus in corpora]
        augmentation = getattr(system, "augmentation", None)
        if augmentation and augmentation.corpora():
            sounds = [f"results/corpora/{corpus}" for corpus in augmentation.corpora()]
            inputs["sound_samples"] = [f"{corpus}/audio.i16" for corpus in sounds]
            inputs["sound_index"] = [f"{corpus}/audio.parquet" for corpus in sounds]
            inputs["sound_kinds"] = [f"{corpus}/utterances.parquet" for corpus in sounds]
        if "layer_means" in system.inputs:
            base = f"layer_means/{encoder_key(system.model)}"
            inputs["layer_means"] = [f"{corpus}/{base}.npy" for corpus in corpora]
            inputs["layer_ids"] = [f"{corpus}/{base}.parquet" for corpus in corpora]
        if "functionals" in system.inputs:
            inputs["functionals"] = [f"{corpus}/functionals.parquet" for corpus in corpora]
        if "transcripts" in system.inputs:
            inputs["transcripts"] = self._texts(wildcards.study, wildcards.system)
        if "embeddings" in system.inputs:
            base = f"results/{wildcards.study}/seed-{wildcards.seed}/systems/{system.embeddings}"
            inputs["embeddings"] = [f"{base}/embeddings-{wildcards.fold}.parquet"]
        return inputs

    def embedding_inputs(self, wildcards: Any) -> dict[str, str | list[str]]:
        """Input function: a fold's trained system, and the utterances to embed with it."""
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/systems/{wildcards.system}"
        fold = wildcards.fold
        if fold == HIDDEN:  # as the study's only fold has trained it
            (fold,) = self.studies[wildcards.study].folds.names()
        inputs = {name: self.fold_inputs(wildcards)[name] for name in ("folds", "models")}
        corpora = [f"results/corpora/{name}" for name in self.studies[wildcards.study].corpora]
        return {
            "system": f"{base}/fold-{fold}",
            "samples": [f"{corpus}/audio.i16" for corpus in corpora],
            "index": [f"{corpus}/audio.parquet" for corpus in corpora],
            **inputs,
        }

    def system_settings(self, wildcards: Any) -> str:
        """A system's own block, the class order of its output, and the scale of its attributes."""
        study = self.studies[wildcards.study]
        system = self.system(wildcards.study, wildcards.system)
        # Where a system runs does not change what it learns; several GPUs change last digits, and
        # have one class.
        where = {"resources"} if getattr(system, "gpus", 1) == 1 else set()
        block = system.model_dump(mode="json", exclude={"grid", *where})
        learnt = {"classes": study.classes, "train_only": study.labels.train_only, "scale": None}
        if study.attributes and system.predicts != "categories":
            low, high = study.attributes.scale
            learnt["scale"] = {"names": study.attributes.names, "low": low, "high": high}
        return canonical({"system": block, **learnt})

    def trained_folds(self, wildcards: Any) -> list[str]:
        """Input function: the folders of a system's folds."""
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/systems/{wildcards.system}"
        return [f"{base}/fold-{fold}" for fold in self.studies[wildcards.study].folds.names()]

    def grid_folds(self) -> str:
        """A pattern of the paths, from the study on, of the folds that a grid gives its system."""
        found = []
        for study, config in self.studies.items():
            names = "|".join(name for name, system in config.systems.items() if system.grid)
            if names:
                found.append(f"{re.escape(study)}/seed-[0-9]+/systems/(?:{names})/fold-[0-9]")
        return "|".join(found) or "(?!)"

    def grid_points(self, wildcards: Any) -> list[str]:
        """Input function: the folders of all points and folds of a grid."""
        study = self.studies[wildcards.study]
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/systems"
        points = points_of(wildcards.system, study.systems[wildcards.system])
        return [f"{base}/{point}/fold-{fold}" for point in points for fold in study.folds.names()]

    def grid_settings(self, wildcards: Any) -> str:
        """What chooses a point, and the values of each."""
        grid = self.studies[wildcards.study].systems[wildcards.system].grid
        points = {name_of(wildcards.system, point): point for point in grid.points()}
        how = grid.model_dump(mode="json", include={"choose_on", "objective"})
        return canonical({"points": points, "over": list(grid.over), **how})

    def grid_files(self, study: str) -> list[str]:
        """The scores of the points of every grid and seed."""
        systems = self.studies[study].systems
        return self.per_seed(study, "grids", [name for name, x in systems.items() if x.grid])

    def fold_of_points(self, wildcards: Any) -> list[str]:
        """Input function: the folders of one fold of all points of a grid."""
        folder = f"fold-{wildcards.fold}"
        return [path for path in self.grid_points(wildcards) if Path(path).name == folder]
