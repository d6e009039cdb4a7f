"""Download an open corpus, verify it, and unpack it."""

import json
from pathlib import Path

from serflow import job
from serflow.acquisition.acquire import acquire
from serflow.acquisition.source import Source
from serflow.files import write_text


def main(smk, settings):
    record = acquire(
        settings["corpus"],
        Source.from_settings(settings["source"]),
        Path(settings["downloads"]).expanduser(),
        Path(smk.output.folder),
    )
    write_text(smk.output.record, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    job.run(main, snakemake)
