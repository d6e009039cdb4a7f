"""Divide a corpus into transcription jobs."""

from pathlib import Path

from serflow import job
from serflow.asr.shards import shard_count, split
from serflow.tables import SHARD, UTTERANCES


def main(smk, settings):
    utterances = UTTERANCES.read(smk.input[0])
    seconds = utterances["duration_s"].fillna(0).sum()
    shards = settings["shards"] or shard_count(seconds, settings["on_gpu"])
    for number, rows in enumerate(
        split(utterances, smk.wildcards.corpus, settings["language"], shards)
    ):
        SHARD.write(rows, Path(smk.output[0]) / f"{number}-of-{shards}.parquet")


if __name__ == "__main__":
    job.run(main, snakemake)
