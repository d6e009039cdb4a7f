"""Describe every utterance of a corpus by acoustic functionals."""

from serflow import job
from serflow.acoustics.functionals import functionals_table
from serflow.audio import AudioStore
from serflow.tables import AUDIO_INDEX, FUNCTIONALS


def main(smk, settings):
    store = AudioStore([(smk.input.samples, smk.input.index)])
    ids = AUDIO_INDEX.read(smk.input.index)["utterance_id"].tolist()
    FUNCTIONALS.write(functionals_table(store, ids, workers=smk.threads), smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
