"""Embeddings of a fold's utterances by the network that the fold trained."""

from pathlib import Path

import pandas as pd

from serflow import job
from serflow.systems.inputs import read_inputs
from serflow.systems.interface import Examples
from serflow.systems.saved import load
from serflow.tables import EMBEDDINGS, FOLDS


def main(smk, settings):
    folds = FOLDS.read(smk.input.folds)
    ids = folds.loc[folds["fold"] == smk.wildcards.fold, "utterance_id"].tolist()
    models = [str(Path(file).parent) for file in smk.input.models]
    system = load(Path(smk.input.system), models, smk.threads)
    vectors = system.embed(Examples.unlabelled(ids, **read_inputs(smk.input)))
    table = pd.DataFrame(vectors).add_prefix("e_")
    table.insert(0, "utterance_id", ids)
    EMBEDDINGS.write(table, smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
