"""Where corpora come from, and what is computed of each once for all."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serflow.acquisition.sources import SOURCES, is_open, needs_a_licence
from serflow.digests import canonical
from serflow.errors import UserError
from serflow.invalidation import file_digest, tree_digest
from serflow.plan.base import Settings


class Corpora(Settings):
    """See `serflow.plan.Plan`."""

    def _check_corpora(self) -> None:
        for corpus in self.corpora:
            self._check_path_names(corpus)
        faults = [
            f"  {corpus}: {needs_a_licence(corpus, config.source)}"
            for corpus, config in self.corpora.items()
            if not self.corpus_folder(corpus)
        ]
        if faults:
            raise UserError(
                "config.yaml: these corpora are not downloaded, and `paths` does not say where "
                "they lie:\n" + "\n".join(faults)
            )

    def _check_path_names(self, corpus: str) -> None:
        """Refuse to download what is on the machine under a slightly different name."""
        source = self.corpora[corpus].source
        known = self.site.paths
        if self._own_folder(corpus) or source == "demo":
            return
        strange = [name for name, path in known.items() if path and name not in self.corpora]
        named = [source] if source in strange else []
        named += difflib.get_close_matches(corpus, strange, n=1, cutoff=0.8)
        if named:
            raise UserError(
                f"config.yaml: there is paths.{named[0]}, and none for the corpus '{corpus}' of the "
                f"studies: rename it to '{corpus}' (the keys are the studies' names of corpora), or "
                "take it out"
            )

    def corpus_folder(self, corpus: str) -> str:
        """Where a corpus lies: the user's own folder, or one made by a rule; '' where neither."""
        return self._own_folder(corpus) or self._made_folder(corpus)

    def _own_folder(self, corpus: str) -> str | None:
        """Where a corpus lies that no rule makes: as the site says, or else the study."""
        return self.site.paths.get(corpus) or getattr(self.corpora[corpus], "folder", None)

    def _made_folder(self, corpus: str) -> str:
        source = self.corpora[corpus].source
        if source == "demo":
            return f"results/corpora/{corpus}/source"
        return f"results/corpora/{corpus}/download" if is_open(source) else ""

    def corpus_source(self, corpus: str) -> list[str]:
        """The corpus's folder as a rule's input, where a rule makes it.

        Raises
        ------
        UserError
            Nobody makes it, and nobody says where it lies.
        """
        if self._own_folder(corpus):
            return []
        made = self._made_folder(corpus)
        if not made:
            raise UserError(f"corpus {needs_a_licence(corpus, self.corpora[corpus].source)}")
        return [made]

    def download(self, corpus: str) -> str:
        """The settings of a download: where it comes from, and where its archives are kept."""
        source = self.corpora[corpus].source
        return canonical(
            {
                "corpus": corpus,
                "source": asdict(SOURCES[source]),
                "downloads": self.site.downloads,
            }
        )

    def downloads(self, study: str) -> list[str]:
        """What is on record of a study's corpora that a rule downloads."""
        config = self.studies[study]
        return [
            f"results/corpora/{corpus}/download.json"
            for corpus, config in {**config.corpora, **config.sound_corpora()}.items()
            if not self.site.paths.get(corpus) and is_open(config.source)
        ]

    def corpus_listing(self, corpus: str) -> str:
        """Digest over the files of a corpus that no rule makes, taken once a run."""
        if corpus not in self._listings:
            folder = Path(self.corpus_folder(corpus)).expanduser()
            made, config = self.corpus_source(corpus), self.corpora[corpus]
            if getattr(config, "audio", "") is None:
                # Posteriors may lie beside the labels, and are none of the corpus.
                self._listings[corpus] = file_digest(folder / config.table)
            else:
                self._listings[corpus] = "" if made else tree_digest(folder)
        return self._listings[corpus]

    def fingerprints(self, wildcards: Any) -> list[str]:
        """Input function: the audio fingerprints that a study's audit compares."""
        study = self.studies[wildcards.study]
        if not study.audit.near_duplicates:
            return []
        return [f"results/corpora/{corpus}/fingerprints.parquet" for corpus in study.corpora]

    def per_corpus(self, pattern: str) -> Callable[[Any], list[str]]:
        """Input function: `pattern` for every corpus of the study."""
        return lambda wildcards: [
            pattern.format(corpus=corpus) for corpus in self.studies[wildcards.study].corpora
        ]
