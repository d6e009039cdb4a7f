"""Write one file that the study hands in, in the challenge's own format."""

import json
from pathlib import Path

from serflow import job
from serflow.attributes import read_attributes
from serflow.files import write_text
from serflow.posteriors import read_posteriors
from serflow.predictions import read_predictions
from serflow.submission.formats import file_text
from serflow.tables import UTTERANCES
from serflow.unlabelled import answers, at_stage, fused, fused_attributes


def main(smk, settings):
    folders = {Path(folder).parent.name: Path(folder) for folder in smk.input.systems}
    dev = {Path(path).stem: read_posteriors(path) for path in smk.input.dev}
    calibrations, fusions = (
        {Path(path).stem: json.loads(Path(path).read_text("utf-8")) for path in paths}
        for paths in (smk.input.calibrations, smk.input.fusions)
    )
    target = settings["prior"]["target"]
    tasks = {}
    for task, how in settings["tasks"].items():
        if how["what"] == "attributes":
            tables = {x: read_attributes(folders[x] / "attributes.parquet") for x in how["systems"]}
            fuse = fused_attributes
        else:
            tables, fuse = {}, fused
            for name in how["systems"]:
                raw = read_predictions(folders[name] / "predictions.parquet")
                learnt = calibrations.get(name)
                tables[name] = at_stage(raw, how["stage"], learnt, target, dev.get(name))
        (table,) = [fuse(tables, fusions[how["fusion"]])] if how["fusion"] else tables.values()
        tasks[task] = answers(table)
    utterances = UTTERANCES.read(smk.input.utterances)
    file = file_text(settings["format"], smk.wildcards.file, utterances, tasks)
    write_text(smk.output[0], file)


if __name__ == "__main__":
    job.run(main, snakemake)
