"""The README's own-corpus example, word for word, on a corpus of one's own."""

from __future__ import annotations

import re

import pandas as pd

from runs import ROOT, copy_workflow, snakemake
from serflow.config.load import load_study
from serflow.corpora.iemocap import COUNTS
from serflow.tables import SCORES
from small_emodb import write_small_emodb


def yaml_blocks(heading: str) -> list[str]:
    """The YAML under a heading of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)


def test_the_iemocap_study_of_the_readme_is_valid(tmp_path):
    (block,) = yaml_blocks("## Corpora")
    systems = "systems: {svm: {family: functionals, classifier: svm}}\n"
    (tmp_path / "iemocap.yaml").write_text(block + systems, encoding="utf-8")
    study = load_study(tmp_path / "iemocap.yaml")
    assert set(study.labels.map) | set(study.labels.drop) | set(study.classes) >= set(COUNTS)


def test_the_transcriptions_of_the_readme_are_valid(tmp_path):
    (corpora,), (block,) = yaml_blocks("## Corpora"), yaml_blocks("## Transcripts")
    (tmp_path / "texts.yaml").write_text(corpora + block, encoding="utf-8")
    study = load_study(tmp_path / "texts.yaml")
    assert study.transcript_twins() == [("text", "text_gold")]


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
    site, study = yaml_blocks("## Your own corpus")
    assert "/data/my corpus" in site
    (folder / "config.yaml").write_text(site.replace("/data/my corpus", str(corpus)), "utf-8")
    (folder / "studies/mine.yaml").write_text(study, encoding="utf-8")
    done = snakemake(folder, "--cores", "2")
    assert "Report: results/mine/report.html" in done.stdout
    scores = SCORES.read(folder / "results/mine/scores.parquet")
    assert set(scores["system"]) == {"svm", "lda", "both"}
    assert (scores.loc[scores["scope"] == "pooled", "n"] == 60).all()
    fold = scores["scope"].str.fullmatch(r"fold \d+")
    assert (scores.loc[fold, "n"] == 12).all()
