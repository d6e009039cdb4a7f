"""Train the demo's tiny Canary on the training speakers' utterances."""

from serflow import job
from serflow.audio import AudioStore
from serflow.demo.canary import make_canary
from serflow.files import atomic
from serflow.tables import UTTERANCES


def main(smk, settings):
    rows = UTTERANCES.read(smk.input.utterances)
    rows = rows[rows["split"] == "train"]
    store = AudioStore([(smk.input.samples, smk.input.index)])
    pairs = [(store.samples(row.utterance_id), row.text) for row in rows.itertuples(index=False)]
    with atomic(smk.output[0]) as partial:
        make_canary(pairs, partial, seed=1)


if __name__ == "__main__":
    job.run(main, snakemake)
