"""Recognisers, their jobs, and the transcripts of a study."""

from __future__ import annotations

from pathlib import Path

from serflow.config.resources import on_gpu
from serflow.digests import canonical
from serflow.plan.models import Models, recognisers


class Transcriptions(Models):
    """See `serflow.plan.Plan`."""

    def asr_names(self, *engines: str) -> str:
        """A pattern that matches the transcriptions by these engines alone."""
        names = [name for name, asr in self.asr.items() if asr.engine in engines]
        return "|".join(names) or "(?!)"

    def transcriber_settings(self, asr: str) -> str:
        """What a transcription job is told; where it runs, and in how many parts, is none of it."""
        apart = {"resources", "shards", "language"}
        return canonical({"name": asr, **self.asr[asr].model_dump(mode="json", exclude=apart)})

    def shards(self, asr: str) -> str:
        """What the division into jobs depends on."""
        config = self.asr[asr]
        wanted = config.model_dump(mode="json", include={"shards", "language"})
        return canonical({**wanted, "on_gpu": on_gpu(config.resources)})

    def shard_outputs(self, folder: str) -> list[str]:
        """What the transcription jobs write, once their shards are there."""
        shards = sorted(Path(folder).glob("*-of-*.parquet"))
        return [str(shard.parent.parent / f"shard-{shard.name}") for shard in shards]

    def transcripts(self, study: str) -> list[str]:
        """Every transcription of every corpus of a study; empty when it has none."""
        config = self.studies[study]
        return [
            f"results/corpora/{corpus}/transcripts/{asr}.parquet"
            for asr in config.asr
            for corpus in config.corpora
        ]

    def recognised(self, study: str) -> list[str]:
        """The transcriptions that a recogniser makes."""
        mine = recognisers(self.studies[study].asr)
        return [file for file in self.transcripts(study) if Path(file).stem in mine]

    def _texts(self, study: str, system: str) -> list[str]:
        """The transcripts that a system reads."""
        asr = self.studies[study].transcription(system)
        return [file for file in self.transcripts(study) if Path(file).stem == asr]
