"""Fuse the posteriors of several systems."""

import json

from serflow import job
from serflow.files import write_text
from serflow.posteriors import read_posteriors
from serflow.stacking import fuse, make_fusion
from serflow.tables import UTTERANCES


def main(smk, settings):
    tables = [read_posteriors(path) for path in smk.input.posteriors]
    fused, learnt = fuse(
        dict(zip(settings["systems"], tables, strict=True)),
        settings["name"],
        settings["fit_on"],
        lambda: make_fusion(settings),
        UTTERANCES.read(smk.input.utterances),
        settings["missing"],
    )
    write_text(smk.output.weights, json.dumps({"settings": settings, **learnt}, indent=1))
    fused.write(smk.output.posteriors)


if __name__ == "__main__":
    job.run(main, snakemake)
