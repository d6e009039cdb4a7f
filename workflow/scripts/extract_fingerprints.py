"""Fingerprint every utterance of a corpus."""

from serflow import job
from serflow.acoustics.fingerprints import FINGERPRINTS, fingerprints_table
from serflow.audio import AudioStore
from serflow.tables import AUDIO_INDEX


def main(smk, settings):
    store = AudioStore([(smk.input.samples, smk.input.index)])
    ids = AUDIO_INDEX.read(smk.input.index)["utterance_id"].tolist()
    FINGERPRINTS.write(fingerprints_table(store, ids, workers=smk.threads), smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
