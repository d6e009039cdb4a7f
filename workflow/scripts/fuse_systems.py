"""Fuse the posteriors of several systems."""

import json

from serflow import job
from serflow.files import write_text
from serflow.posteriors import read_posteriors
from serflow.stacking import fuse, make_fusion


def main(smk, settings):
    tables = [read_posteriors(path) for path in smk.input]
    systems = dict(zip(settings["systems"], tables, strict=True))
    fused, fits = fuse(systems, settings["name"], settings["fit_on"], lambda: make_fusion(settings))
    write_text(smk.output.weights, json.dumps({"settings": settings, "fits": fits}, indent=1))
    fused.write(smk.output.posteriors)


if __name__ == "__main__":
    job.run(main, snakemake)
