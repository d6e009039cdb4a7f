"""The utterances without a label, as the test rows of fold 'hidden'."""

import pandas as pd

from serflow import job
from serflow.config.submission import HIDDEN
from serflow.final_fold import fold_beside, hidden_rows
from serflow.labels import keep_rows
from serflow.tables import FOLDS, UTTERANCES


def main(smk, settings):
    corpora = [UTTERANCES.read(path) for path in smk.input]
    kept, _ = keep_rows(pd.concat(corpora, ignore_index=True), settings["keep"])
    hidden = hidden_rows(kept)
    _, folds = fold_beside(hidden[:0], hidden, HIDDEN)
    UTTERANCES.write(hidden, smk.output.utterances)
    FOLDS.write(folds, smk.output.folds)


if __name__ == "__main__":
    job.run(main, snakemake)
