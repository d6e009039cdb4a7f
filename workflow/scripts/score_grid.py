"""Score the points of a grid on the rows that may choose, and say which is taken where."""

import json
from pathlib import Path

from serflow import job
from serflow.files import write_text
from serflow.grids import choose, fold_score
from serflow.posteriors import read_posteriors


def main(smk, settings):
    how = settings["choose_on"], settings["objective"]
    scores, rows = {}, {}
    for folder in map(Path, smk.input):
        fold = folder.name.removeprefix("fold-")
        score, rows[fold] = fold_score(read_posteriors(folder / "posteriors.parquet"), *how)
        scores.setdefault(folder.parent.name, {})[fold] = score
    found = settings | {"scores": scores, "rows": rows, **choose(scores, settings["choose_on"])}
    write_text(smk.output[0], json.dumps(found, indent=1))


if __name__ == "__main__":
    job.run(main, snakemake)
