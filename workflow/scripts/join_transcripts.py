"""Join the shards: exactly one transcript for every utterance, in the corpus's order."""

import pandas as pd

from serflow import job
from serflow.errors import UserError, name_some
from serflow.tables import TRANSCRIPTS, UTTERANCES


def main(smk, settings):
    ids = UTTERANCES.read(smk.input.utterances)["utterance_id"]
    rows = pd.concat([TRANSCRIPTS.read(path) for path in smk.input.shards])
    missing = sorted(set(ids) - set(rows["utterance_id"]))
    if missing:
        raise UserError(f"{len(missing)} utterances have no transcript: {name_some(missing)}")
    TRANSCRIPTS.write(rows.set_index("utterance_id").loc[ids].reset_index(), smk.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
