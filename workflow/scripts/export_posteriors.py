"""Join the folds of a system: the frozen boundary."""

from serflow import job
from serflow.posteriors import concatenate, read_posteriors


def main(smk, settings):
    concatenate([read_posteriors(path) for path in smk.input]).write(smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
