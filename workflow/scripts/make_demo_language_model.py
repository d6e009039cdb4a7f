"""Make the demo's tiny LLaMA from the sentences of the training speakers."""

from pathlib import Path

from serflow import job
from serflow.demo.checkpoints import make_llama
from serflow.models import made_whole
from serflow.tables import UTTERANCES


def main(smk, settings):
    rows = UTTERANCES.read(smk.input.utterances)
    texts = rows.loc[rows["split"] == "train", "text"].tolist()
    with made_whole(Path(smk.output[0]).parent, "tiny LLaMA, demo sentences") as folder:
        make_llama(folder, texts, seed=1)


if __name__ == "__main__":
    job.run(main, snakemake)
