"""Put the utterances without a label beside the study's own, as the test rows of fold 'final'."""

import pandas as pd

from serflow import job
from serflow.config.submission import FINAL
from serflow.final_fold import fold_beside, hidden_rows
from serflow.labels import keep_rows
from serflow.tables import FOLDS, UTTERANCES


def main(smk, settings):
    corpora = [UTTERANCES.read(path) for path in smk.input.corpora]
    kept, _ = keep_rows(pd.concat(corpora, ignore_index=True), settings["keep"])
    labelled = UTTERANCES.read(smk.input.utterances)
    rows, folds = fold_beside(labelled, hidden_rows(kept), FINAL)
    UTTERANCES.write(rows, smk.output.utterances)
    FOLDS.write(folds, smk.output.folds)


if __name__ == "__main__":
    job.run(main, snakemake)
