"""The settings of one run, as all that the rules ask of them sees them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from serflow.config.asr import AsrConfig
from serflow.config.cluster import ClusterConfig
from serflow.config.corpora import CorpusConfig
from serflow.config.site import SiteConfig
from serflow.config.study import CONTRAST, StudyConfig
from serflow.digests import canonical
from serflow.invalidation import Sources


class Settings:
    """The studies of a run with their contrasts, and the corpora and transcriptions of all.

    Parameters
    ----------
    site : SiteConfig
    studies : dict of str to StudyConfig
    scripts : Path
        `workflow/scripts`.
    cluster : ClusterConfig, optional
        The cluster that jobs go to; of no consequence where they run on this machine.
    kept_sources : Path, optional
        See `serflow.invalidation.Sources`.
    """

    def __init__(
        self,
        site: SiteConfig,
        studies: dict[str, StudyConfig],
        scripts: Path,
        cluster: ClusterConfig | None = None,
        kept_sources: Path | None = None,
    ) -> None:
        self.site = site
        self.cluster = cluster or ClusterConfig()
        self.studies = dict(studies)
        self.scripts = scripts
        self.kept_sources = kept_sources
        self.corpora: dict[str, CorpusConfig] = {}
        self.asr: dict[str, AsrConfig] = {}
        self._listings: dict[str, str] = {}
        for name, study in list(studies.items()):
            self.corpora.update(study.corpora)
            self.corpora.update(study.sound_corpora())
            self.asr.update(study.asr)
            for contrast in study.contrasts:
                self.studies[f"{name}{CONTRAST}{contrast}"] = study.contrast(contrast)

    def code(self, script: str, *modules: str) -> str:
        """Digest of a rule's script and all that it imports."""
        return self._sources.digest(script, *modules)

    @cached_property
    def _sources(self) -> Sources:
        return Sources(self.scripts, self.kept_sources)

    def settings(self, study: str, *blocks: str) -> str:
        """Canonical JSON of the study's name and some of its blocks."""
        dump = self.studies[study].model_dump(mode="json", include=set(blocks))
        return canonical({"study": study, **dump})

    def per_seed(self, study: str, folder: str, names: Iterable[str]) -> list[str]:
        """A JSON file of each name in a folder of every seed."""
        names = list(names)
        base = f"results/{study}"
        return [
            f"{base}/seed-{seed}/{folder}/{name}.json"
            for seed in self.studies[study].seeds
            for name in names
        ]
