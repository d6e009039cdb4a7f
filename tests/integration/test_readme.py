"""The README's own-corpus example, word for word, on a corpus of one's own."""

from __future__ import annotations

import re

import pandas as pd

from runs import ROOT, copy_workflow, snakemake
from serflow.tables import SCORES
from small_emodb import write_small_emodb


def test_the_own_corpus_of_the_readme_runs_to_its_report(tmp_path):
    folder = copy_workflow(tmp_path / "clone")
    corpus = write_small_emodb(tmp_path / "my corpus", ("03", "08", "09", "10", "11"))
    emotions = {"W": "angry", "N": "happy", "T": "sad"}
    files = sorted((corpus / "wav").glob("*.wav"))
    table = {
        "path": [f"wav/{file.name}" for file in files],
        "emotion": [emotions[file.name[5]] for file in files],
        "speaker": [file.name[:2] for file in files],
    }
    pd.DataFrame(table).to_csv(corpus / "utterances.csv", index=False)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    site, study = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert "/data/my corpus" in site
    (folder / "config.yaml").write_text(site.replace("/data/my corpus", str(corpus)), "utf-8")
    (folder / "studies/mine.yaml").write_text(study, encoding="utf-8")
    done = snakemake(folder, "--cores", "2")
    assert "Report: results/mine/report.html" in done.stdout
    scores = SCORES.read(folder / "results/mine/scores.parquet")
    assert set(scores["system"]) == {"svm", "lda", "mean"}
    assert (scores["n"] == 60).all()
