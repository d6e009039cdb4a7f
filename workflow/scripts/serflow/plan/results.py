"""What is right of the frozen boundary: posteriors, attributes, fusions, evaluation."""

from __future__ import annotations

from typing import Any

from serflow.config.study import CONTRAST
from serflow.digests import canonical
from serflow.plan.base import Settings


class Results(Settings):
    """See `serflow.plan.Plan`."""

    def contrasts(self, study: str, file: str) -> list[str]:
        """A file of each of the study's contrasts."""
        return [
            f"results/{study}{CONTRAST}{contrast}/{file}"
            for contrast in self.studies[study].contrasts
        ]

    def posteriors(self, study: str, seed: int | str) -> dict[str, str]:
        """Every posteriors table of a study and seed: 'stage/system' -> file."""
        config = self.studies[study]
        base = f"results/{study}/seed-{seed}/posteriors"
        systems = config.predicts("categories")
        names = [f"{stage}/{s}" for stage in config.stages for s in systems]
        names += [f"fused/{f}" for f in config.fusions]
        return {name: f"{base}/{name}.parquet" for name in names}

    def rebalanced_from(self, wildcards: Any) -> str:
        """Input function: what is rebalanced, the last stage before it."""
        stage = self.studies[wildcards.study].stages[-2]
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/posteriors"
        return f"{base}/{stage}/{wildcards.system}.parquet"

    def calibration_files(self, study: str) -> list[str]:
        """What the calibration of every system and seed learnt."""
        config = self.studies[study]
        systems = config.predicts("categories") if config.calibration else []
        return self.per_seed(study, "calibrations", systems)

    def all_posteriors(self, study: str) -> list[str]:
        """The posteriors tables of all seeds."""
        seeds = self.studies[study].seeds
        return [path for seed in seeds for path in self.posteriors(study, seed).values()]

    def all_attributes(self, study: str) -> list[str]:
        """The tables of predicted attributes of all seeds."""
        config = self.studies[study]
        names = [f"raw/{system}" for system in config.predicts("attributes")]
        names += [f"fused/{fusion}" for fusion in config.attribute_fusions]
        return [
            f"results/{study}/seed-{seed}/attributes/{name}.parquet"
            for seed in config.seeds
            for name in names
        ]

    def fusion_inputs(self, wildcards: Any) -> list[str]:
        """Input function: the posteriors of a fusion's systems, in its order."""
        fusion = self.studies[wildcards.study].fusions[wildcards.fusion]
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/posteriors/{fusion.stage}"
        return [f"{base}/{system}.parquet" for system in fusion.systems]

    def attribute_fusion_inputs(self, wildcards: Any) -> list[str]:
        """Input function: the attributes of a fusion's systems, in its order."""
        fusion = self.studies[wildcards.study].attribute_fusions[wildcards.fusion]
        base = f"results/{wildcards.study}/seed-{wildcards.seed}/attributes/raw"
        return [f"{base}/{system}.parquet" for system in fusion.systems]

    def fusion_files(self, study: str) -> list[str]:
        """The weights of every fusion and seed."""
        return self.per_seed(study, "fusions", self.studies[study].fusions)

    def attribute_fusion_files(self, study: str) -> list[str]:
        """The weights of every fusion of attributes and seed."""
        return self.per_seed(study, "attribute_fusions", self.studies[study].attribute_fusions)

    def evaluation(self, study: str) -> str:
        """The settings of a study's evaluation."""
        config = self.studies[study]
        dump = config.model_dump(mode="json", include={"intervals", "paper_values"})
        tried = {
            name: len(system.grid.points())
            for name, system in config.systems.items()
            if system.grid and system.grid.choose_on == "cross_validation"
        }
        # A fusion is no more honest than what it fuses.
        tried |= {
            name: max(tried[system] for system in fusion.systems if system in tried)
            for name, fusion in config.fusions.items()
            if tried.keys() & set(fusion.systems)
        }
        facts = {"study": study, "twins": config.transcript_twins(), "tried": tried}
        return canonical(facts | dump)
