"""Write what the study hands in, in the challenge's own format."""

from pathlib import Path

from serflow import job
from serflow.files import write_text
from serflow.predictions import read_predictions
from serflow.submission.emospeech import challenge_id, expected_ids, results_csv
from serflow.tables import UTTERANCES


def main(smk, settings):
    tasks = {}
    for task, folder in zip(settings["tasks"], smk.input.final, strict=True):
        found = read_predictions(Path(folder) / "predictions.parquet").hypotheses
        tasks[task] = {challenge_id(name): label for name, label in found.items()}
    ids = expected_ids(UTTERANCES.read(smk.input.utterances))
    write_text(smk.output[0], results_csv(ids, tasks))


if __name__ == "__main__":
    job.run(main, snakemake)
