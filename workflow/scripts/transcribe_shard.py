"""Transcribe one shard of a corpus."""

from pathlib import Path

from serflow import job, models
from serflow.asr.engine import Settings, load_engine
from serflow.asr.shards import select_shard
from serflow.asr.transcribe import transcribe_shard
from serflow.audio import AudioStore
from serflow.tables import AUDIO_INDEX, TRANSCRIPTS


def main(smk, settings):
    settings["model"] = models.location(smk.input.model)
    ids = AUDIO_INDEX.read(smk.input.index)["utterance_id"]
    shard, shards = int(smk.wildcards.shard), int(smk.wildcards.shards)
    journal = Path(smk.output[0]).with_suffix(".journal.jsonl")
    rows = transcribe_shard(
        AudioStore([(smk.input.samples, smk.input.index)]),
        select_shard(ids, shard, shards),
        load_engine,
        journal,
        Settings(**settings, threads=smk.threads),
    )
    TRANSCRIPTS.write(rows, smk.output[0])
    journal.unlink()


if __name__ == "__main__":
    job.run(main, snakemake)
