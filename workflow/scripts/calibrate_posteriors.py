"""Calibrate a system's posteriors on rows that are not scored."""

import json

from serflow import job
from serflow.files import write_text
from serflow.posteriors import read_posteriors
from serflow.recalibration import calibrate
from serflow.tables import UTTERANCES


def main(smk, settings):
    how = settings["calibration"]
    calibrated, fits = calibrate(
        read_posteriors(smk.input.posteriors),
        how["method"],
        how["fit_on"],
        UTTERANCES.read(smk.input.utterances),
    )
    write_text(smk.output.fits, json.dumps({"settings": how, "fits": fits}, indent=1))
    calibrated.write(smk.output.posteriors)


if __name__ == "__main__":
    job.run(main, snakemake)
