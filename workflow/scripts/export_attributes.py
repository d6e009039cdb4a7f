"""Join the attributes that the folds of a system predict."""

from pathlib import Path

from serflow import job
from serflow.attributes import concatenate, read_attributes


def main(smk, settings):
    folds = [read_attributes(Path(folder) / "attributes.parquet") for folder in smk.input]
    concatenate(folds).write(smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
