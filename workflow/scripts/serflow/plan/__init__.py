"""What the rules ask of the settings: file names, canonical settings, code digests, resources.

Imported by the Snakefile, so nothing here imports pandas or torch.
"""

from __future__ import annotations

from pathlib import Path

from serflow.config.cluster import ClusterConfig
from serflow.config.corpora import PUBLISHED
from serflow.config.site import SiteConfig
from serflow.config.study import StudyConfig
from serflow.plan.corpora import Corpora
from serflow.plan.given import Given
from serflow.plan.models import SONAR_FILE
from serflow.plan.results import Results
from serflow.plan.submissions import Submissions

__all__ = ["Plan"]


class Plan(Submissions, Corpora, Given, Results):
    """The settings of one run, seen from the rules, one part a stage; parameters as of `Settings`."""

    def __init__(
        self,
        site: SiteConfig,
        studies: dict[str, StudyConfig],
        scripts: Path,
        cluster: ClusterConfig | None = None,
        kept_sources: Path | None = None,
    ) -> None:
        super().__init__(site, studies, scripts, cluster, kept_sources)
        self._check_models()
        self._check_corpora()
        self._check_given()
        self._check_arrays()
        for source, kind in PUBLISHED.items():
            self.corpora.setdefault(source, kind(source=source))

    def fetched(self) -> list[str]:
        """What the studies need of the internet: models of the hub, SONAR, corpora that are open."""
        used = [m for s in self.studies.values() for x in s.trained.values() for m in x.models()]
        files = [f"results/models/{folder}/model.json" for folder in self.hub_models()]
        files += [SONAR_FILE] * any(self.model_file(model) == SONAR_FILE for model in used)
        return files + [file for study in self.studies for file in self.downloads(study)]
