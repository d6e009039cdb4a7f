"""Make a tiny Wav2Vec2-BERT with random weights, to be trained from scratch."""

from pathlib import Path

from serflow import job
from serflow.demo.checkpoints import make_w2v_bert
from serflow.models import made_whole


def main(smk, settings):
    with made_whole(Path(smk.output[0]).parent, "tiny Wav2Vec2-BERT, random weights") as folder:
        make_w2v_bert(folder, seed=1)


if __name__ == "__main__":
    job.run(main, snakemake)
