"""Move a system's posteriors from its training prior to the study's target prior."""

from serflow import job
from serflow.posteriors import read_posteriors
from serflow.rebalancing import rebalance


def main(smk, settings):
    rebalance(read_posteriors(smk.input[0]), settings["prior"]["target"]).write(smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
