"""What the system of the study's one fold says of the utterances without a label."""

from pathlib import Path

from serflow import job
from serflow.attributes import Scale
from serflow.config.submission import HIDDEN
from serflow.digests import digest
from serflow.files import atomic_folder
from serflow.final_fold import fold_beside
from serflow.systems.fold_run import join_fold, score
from serflow.systems.inputs import read_inputs
from serflow.systems.saved import load_or_fit
from serflow.tables import FOLDS, UTTERANCES


def main(smk, settings):
    folds = FOLDS.read(smk.input.folds)
    train = folds.loc[folds["role"] == "train", "utterance_id"]
    labelled = UTTERANCES.read(smk.input.utterances)
    rows, folds = fold_beside(
        labelled[labelled["utterance_id"].isin(train)], UTTERANCES.read(smk.input.hidden), HIDDEN
    )
    fold = join_fold(
        rows,
        folds,
        HIDDEN,
        settings["classes"],
        settings["train_only"],
        settings["scale"] and Scale(**settings["scale"]),
        **read_inputs(smk.input),
    )
    models = [str(Path(file).parent) for file in smk.input.get("models", [])]
    system = load_or_fit(Path(smk.input.system), fold.examples("train"), models, smk.threads)
    name, seed = smk.wildcards.system, int(smk.wildcards.seed)
    tables = score(system, name, fold, seed, digest(smk.params.settings, smk.params.code))
    with atomic_folder(smk.output[0]) as folder:
        for kind, table in tables.items():
            table.write(folder / f"{kind}.parquet")


if __name__ == "__main__":
    job.run(main, snakemake)
