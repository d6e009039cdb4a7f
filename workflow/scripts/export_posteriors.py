"""Join the folds of a system: the frozen boundary."""

from pathlib import Path

from serflow import job
from serflow.posteriors import concatenate, read_posteriors


def main(smk, settings):
    folds = [read_posteriors(Path(folder) / "posteriors.parquet") for folder in smk.input]
    concatenate(folds).write(smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
