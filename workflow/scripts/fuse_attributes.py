"""Fuse the attributes that several systems predict."""

import json

from serflow import job
from serflow.attribute_fusion import fuse_attributes
from serflow.attributes import read_attributes
from serflow.files import write_text
from serflow.tables import UTTERANCES


def main(smk, settings):
    tables = [read_attributes(path) for path in smk.input.attributes]
    systems = dict(zip(settings["systems"], tables, strict=True))
    fused, fits = fuse_attributes(
        systems,
        settings["name"],
        settings["fit_on"],
        settings["step"],
        UTTERANCES.read(smk.input.utterances),
    )
    write_text(smk.output.weights, json.dumps({"settings": settings, "fits": fits}, indent=1))
    fused.write(smk.output.attributes)


if __name__ == "__main__":
    job.run(main, snakemake)
