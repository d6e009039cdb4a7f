"""Score every posteriors table and every transcription of a study."""

from pathlib import Path

import pandas as pd

from serflow import job
from serflow.attributes import read_attributes
from serflow.evaluation.attributes import score_attributes
from serflow.evaluation.comparisons import compare
from serflow.evaluation.posteriors import score_posteriors
from serflow.evaluation.rows import Evaluation
from serflow.evaluation.transcripts import score_transcripts
from serflow.files import atomic
from serflow.posteriors import read_posteriors
from serflow.tables import COMPARISONS, SCORES, TRANSCRIPTS, UTTERANCES


def main(smk, settings):
    evaluation = Evaluation(
        settings["study"],
        UTTERANCES.read(smk.input.utterances),
        paper_values=settings["paper_values"],
        tried=settings["tried"],
        **settings["intervals"],
    )
    by_seed = {}
    for path in map(Path, smk.input.posteriors):
        table = read_posteriors(path)
        by_seed.setdefault(table.seed, {})[path.parent.name, path.stem] = table
    scores, comparisons = [], []
    for tables in by_seed.values():
        for (stage, system), table in tables.items():
            scores += score_posteriors(evaluation, table, system, stage)
        comparisons += compare(evaluation, tables, twins=settings["twins"])
    for path in map(Path, smk.input.attributes):
        scores += score_attributes(evaluation, read_attributes(path), path.stem, path.parent.name)
    if smk.input.get("transcripts"):
        transcripts = pd.concat([TRANSCRIPTS.read(path) for path in smk.input.transcripts])
        scores += score_transcripts(evaluation, transcripts, seed=min(by_seed))
    frame = pd.DataFrame(scores)
    SCORES.write(frame, smk.output.scores)
    COMPARISONS.write(pd.DataFrame(comparisons), smk.output.comparisons)
    with atomic(smk.output.csv) as partial:
        frame.to_csv(partial, index=False)


if __name__ == "__main__":
    job.run(main, snakemake)
