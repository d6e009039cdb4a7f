r"""Make the example's files from real speech: EmoDB, every speaker predicted by models without it.

    B=results/emodb/seed-1/posteriors/raw
    snakemake --cores all --config 'studies=[emodb]' -- \
        $B/functionals_svm.parquet $B/speech_scratch.parquet
    PYTHONPATH=workflow/scripts python docs/examples/posteriors_only/make.py

Each file is in another of the formats and ways that people keep posteriors in.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serflow.posteriors import read_posteriors

STUDY, CORPUS = Path("results/emodb"), Path("results/corpora/emodb")
HERE = Path(__file__).parent


def ids(utterances):
    return utterances.str.removeprefix("emodb/")


def main():
    rows = pd.read_parquet(STUDY / "utterances.parquet")
    labels = rows[["speaker", "gender", "sentence_id", "label"]]
    labels.insert(0, "utterance_id", ids(rows["utterance_id"]))
    # Each speaker is tested by the models of one fold.
    labels.assign(test_fold=rows["speaker"]).to_csv(HERE / "utterances.csv", index=False)

    svm, network = (
        read_posteriors(STUDY / f"seed-1/posteriors/raw/{name}.parquet")
        for name in ("functionals_svm", "speech_scratch")
    )
    frame = pd.DataFrame(np.exp(svm.log_proba), columns=list(svm.classes)).round(4)
    frame.insert(0, "utterance_id", ids(svm.rows["utterance_id"]))
    frame.to_csv(HERE / "svm.csv", index=False)

    columns = [f"log_p_{label}" for label in network.classes]
    frame = pd.DataFrame(network.log_proba.astype("float32"), columns=columns)
    frame.index = pd.Index(ids(network.rows["utterance_id"]), name="file")
    frame.to_parquet(HERE / "network.parquet")

    # Nothing of serflow: a plain classifier without class weights, and its decision values.
    features = pd.read_parquet(CORPUS / "functionals.parquet").set_index("utterance_id")
    features = features.loc[rows["utterance_id"]].to_numpy()
    logits = np.empty((len(rows), rows["label"].nunique()), dtype="float32")
    for speaker in rows["speaker"].unique():
        test = (rows["speaker"] == speaker).to_numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=1000))
        model.fit(features[~test], rows["label"][~test])
        logits[test] = model.decision_function(features[test])
    np.save(HERE / "plain.npy", logits)
    (HERE / "plain_ids.txt").write_text("\n".join(ids(rows["utterance_id"])) + "\n")
    print("order of plain.npy:", ", ".join(model.classes_))


if __name__ == "__main__":
    main()
