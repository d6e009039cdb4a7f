"""Transcribe one shard of a corpus."""

from importlib import import_module
from pathlib import Path

from serflow.asr.transcribe import transcribe_shard

from serflow import job, models
from serflow.audio import AudioStore
from serflow.tables import TRANSCRIPTS


def main(smk, settings):
    engine = import_module(f"serflow.asr.{settings['engine']}")
    settings["model"] = models.location(smk.input.model)
    transcribe_shard(smk, engine, settings, AudioStore, TRANSCRIPTS, Path)


if __name__ == "__main__":
    job.run(main, snakemake)
