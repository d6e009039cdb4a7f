"""Transcribe one shard of a corpus."""

from pathlib import Path

from serflow import job, models
from serflow.asr.engine import Settings, load_engine
from serflow.asr.transcribe import transcribe_shard
from serflow.asr.voice import VoiceDetector
from serflow.audio import AudioStore
from serflow.tables import SHARD, TRANSCRIPTS


def main(smk, settings):
    shard = SHARD.read(smk.input.shard)
    asked = Settings(
        **settings | {"model": str(Path(smk.input.model).parent)},
        languages=sorted(set(shard["language"])),
        threads=smk.threads,
    )
    journal = Path(smk.output[0]).with_suffix(".journal.jsonl")
    rows, facts = transcribe_shard(
        AudioStore([(smk.input.samples, smk.input.index)]),
        shard,
        load_engine,
        VoiceDetector,
        journal,
        asked,
    )
    facts["model"] = {"name": settings["model"], **models.origin(smk.input.model)}
    TRANSCRIPTS.write(rows, smk.output[0], facts)
    journal.unlink()


if __name__ == "__main__":
    job.run(main, snakemake)
