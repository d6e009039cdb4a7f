"""One fold of a system with a grid: that of the point that was chosen."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from serflow import job
from serflow.attributes import read_attributes
from serflow.files import atomic_folder, write_text
from serflow.posteriors import read_posteriors

TABLES = {"posteriors.parquet": read_posteriors, "attributes.parquet": read_attributes}


def main(smk, settings):
    grid = json.loads(Path(smk.input.grid).read_text(encoding="utf-8"))
    point = grid["folds"][smk.wildcards.fold]
    (source,) = [path for path in map(Path, smk.input.points) if path.parent.name == point]
    with atomic_folder(smk.output[0]) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        for file, read in TABLES.items():
            if (source / file).is_file():
                table = read(source / file)
                rows = table.rows.assign(system=smk.wildcards.system)
                replace(table, rows=rows).write(folder / file)
        facts = json.loads((source / "facts.json").read_text(encoding="utf-8"))
        facts["grid_point"] = {
            key.rpartition(".")[2]: x for key, x in grid["points"][point].items()
        }
        write_text(folder / "facts.json", json.dumps(facts, indent=1))


if __name__ == "__main__":
    job.run(main, snakemake)
