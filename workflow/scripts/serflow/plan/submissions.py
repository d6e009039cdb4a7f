"""What studies hand in: the rows without a label, who predicts them, and the files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from serflow.config.submission import HIDDEN, fusion_of, members, stage_of
from serflow.digests import canonical
from serflow.plan.resources import Resources


class Submissions(Resources):
    """See `serflow.plan.Plan`."""

    def hidden_inputs(self, wildcards: Any) -> dict[str, str | list[str]]:
        """Input function: a fold's trained system, what it read, and the rows without a label."""
        study, seed, system = wildcards.study, wildcards.seed, wildcards.system
        (fold,) = self.studies[study].folds.names()
        base = f"results/{study}/seed-{seed}/systems"
        trained = SimpleNamespace(study=study, seed=seed, system=system, fold=fold)
        inputs = self.fold_inputs(trained)
        inputs = {kind: files for kind, files in inputs.items() if not kind.startswith("sound_")}
        if "embeddings" in inputs:
            source = self.system(study, system).embeddings
            inputs["embeddings"] = [
                f"{base}/{source}/embeddings-{part}.parquet" for part in (fold, HIDDEN)
            ]
        return {
            "system": f"{base}/{system}/fold-{fold}",
            "hidden": f"results/{study}/hidden_utterances.parquet",
            **inputs,
        }

    def submission_inputs(self, wildcards: Any) -> dict[str, str | list[str]]:
        """Input function: what answers a file's tasks, and what they are to be answered for."""
        study, config = wildcards.study, self.studies[wildcards.study]
        seed, settings = config.seeds[0], config.submission
        base = f"results/{study}/seed-{seed}"
        systems, calibrations, fusions, dev = ({} for _ in range(4))  # as ordered sets
        for task in settings.files()[wildcards.file]:
            stage, fusion = stage_of(config, task), fusion_of(config, task)
            if fusion:
                kind = "fusions" if hasattr(fusion, "stage") else "attribute_fusions"
                fusions[f"{base}/{kind}/{settings.tasks[task].system}.json"] = None
            for system in members(config, task):
                folder = "hidden" if settings.fold == HIDDEN else f"fold-{settings.fold}"
                systems[f"{base}/systems/{system}/{folder}"] = None
                if stage != "raw" and config.calibration:
                    calibrations[f"{base}/calibrations/{system}.json"] = None
                if stage == "rebalanced" and config.prior.target == "bbse":
                    before = config.stages[-2]
                    dev[f"{base}/posteriors/{before}/{system}.parquet"] = None
        return {
            "utterances": f"results/{study}/{settings.fold}_utterances.parquet",
            "systems": list(systems),
            "calibrations": list(calibrations),
            "fusions": list(fusions),
            "dev": list(dev),
        }

    def submission_settings(self, wildcards: Any) -> str:
        """The settings of a file: its tasks, and which systems answer them at which stage."""
        config = self.studies[wildcards.study]
        settings = config.submission
        tasks = {
            task: {
                "what": settings.asked()[task],
                "systems": members(config, task),
                "stage": stage_of(config, task),
                "fusion": settings.tasks[task].system if fusion_of(config, task) else None,
            }
            for task in settings.files()[wildcards.file]
        }
        prior = config.prior.model_dump(mode="json")
        return canonical({"format": settings.format, "tasks": tasks, "prior": prior})

    def submissions(self) -> list[str]:
        """The files that the studies of this run hand in."""
        return [
            f"results/{study}/submission/{file}.csv"
            for study in self.site.studies
            if self.studies[study].submission
            for file in self.studies[study].submission.files()
        ]
