"""What a frozen speech encoder says of every utterance of a corpus, averaged over time."""

from pathlib import Path

import torch

from serflow import job
from serflow.audio import AudioStore
from serflow.layer_means import write_layer_means
from serflow.nets.encoders import FrontEnd, SpeechEncoder
from serflow.nets.means import layer_means
from serflow.tables import AUDIO_INDEX


def main(smk, settings):
    torch.set_num_threads(smk.threads)
    index = AUDIO_INDEX.read(smk.input.index)
    ids = index["utterance_id"].tolist()
    store = AudioStore([(smk.input.samples, smk.input.index)])
    source = str(Path(smk.input.model).parent)
    encoder = SpeechEncoder(source, adaptation="frozen")
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    means = layer_means(encoder, FrontEnd(source), store, ids)
    write_layer_means(means, ids, index["samples"].tolist(), smk.output.means, smk.output.ids)


if __name__ == "__main__":
    job.run(main, snakemake)
