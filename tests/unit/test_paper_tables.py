"""Tables for a paper: every number of the scores, complete enough to be quoted, safe to typeset."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from serflow.evaluation.posteriors import score_posteriors
from serflow.evaluation.rows import Evaluation
from serflow.posteriors import Posteriors
from serflow.report.paper_tables import paper_table

CLASSES = ("angry", "sad", "n_100%")
PAPER = {
    "system": "text_only", "stage": "raw", "metric": "macro_f1", "value": 0.6694,
    "source": "Table 3, fold mean & all",
}  # fmt: skip


def posteriors(seed: int, system: str) -> Posteriors:
    rng = np.random.default_rng([seed, len(system)])
    labels = np.repeat(CLASSES, 8)
    rows = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(24)],
            "system": system,
            "fold": "0",
            "role": ["dev", "test"] * 12,
            "label": labels,
        }
    )
    log_proba = log_softmax(rng.normal(size=(24, 3)), axis=1)
    return Posteriors(rows, log_proba, CLASSES, {"0": np.full(3, 1 / 3)}, seed, "digest")


def scores(seeds=(1,)) -> pd.DataFrame:
    utterances = pd.DataFrame({"utterance_id": [f"u{i}" for i in range(24)], "corpus": "c"})
    evaluation = Evaluation(
        "my_study", utterances, resamples=100, unit="utterance", seed=0, paper_values=[PAPER]
    )
    rows = []
    for seed in seeds:
        for system, stage in (("text_only", "raw"), ("svm", "raw"), ("text_only", "rebalanced")):
            rows += score_posteriors(evaluation, posteriors(seed, system), system, stage)
        rows += score_posteriors(evaluation, posteriors(seed, "late"), "late", "fused")
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return scores()


def test_every_score_but_the_cells_of_confusion_matrices_is_a_row_with_all_it_needs(found):
    table = paper_table("my_study", found)
    whole = found[found["hypothesis"] == ""]
    assert len(table.cells) == len(whole)
    row = table.cells.query("system == 'text_only' and stage == 'raw' and metric == 'Macro-F1'")
    row = row[row["rows"] == "test"].iloc[0]
    score = whole[(whole["system"] == "text_only") & (whole["metric"] == "macro_f1")].iloc[1]
    assert (row["value"], row["n"]) == (f"{score['value']:.3f}", "12")
    assert row["interval"] == f"[{score['low']:.3f}, {score['high']:.3f}]"
    notes = {mark: text for mark, text in table.notes if mark}
    assert notes[row["definition"]] == score["definition"]
    assert (row["published"], notes[row["source"]]) == ("0.6694", PAPER["source"])
    assert ("", f"Interval: {score['interval']}.") in table.notes
    unmarked = table.cells.drop(row.name)
    assert set(unmarked["published"]) == {"–"}, "a published value beside a number that is not its"


def test_rows_are_in_reading_order(found):
    """In the order of the jobs, a system's stages lie apart and dev rows come before test rows."""
    cells = paper_table("my_study", found.sample(frac=1, random_state=0)).cells
    assert list(dict.fromkeys(cells["rows"])) == ["test", "dev"]
    cells = paper_table("my_study", found).cells
    test = cells[cells["rows"] == "test"]
    overall = test[test["label"] == ""]
    assert list(overall.index) == list(range(len(overall))), "one class before the whole"
    assert list(dict.fromkeys(zip(overall["system"], overall["stage"], strict=True))) == [
        ("text_only", "raw"), ("text_only", "rebalanced"), ("svm", "raw"), ("late", "fused")
    ]  # fmt: skip


def test_seeds_are_averaged_and_resampled_and_no_seeds_own_interval_is_printed():
    several = scores((1, 2, 3))
    table = paper_table("my_study", several)
    one = several[(several["metric"] == "uar") & (several["system"] == "svm")]
    one = one[one["role"] == "test"]["value"]
    row = table.cells.query("system == 'svm' and metric == 'UA' and rows == 'test'").iloc[0]
    assert row["value"] == f"{one.mean():.3f}"
    spread, low, high = re.fullmatch(r"± (.*) \[(.*), (.*)\]", row["interval"]).groups()
    assert spread == f"{one.std():.3f}"
    # One draw in 27 takes one seed three times: more often than 2.5 %.
    assert (low, high) == (f"{one.min():.3f}", f"{one.max():.3f}")
    assert table.notes[0] == ("", "± is the standard deviation over 3 seeds.")
    assert [text for _, text in table.notes if text.startswith("Interval")] == [
        "Interval: 95% percentile bootstrap over 3 seeds, 2000 resamples."
    ]


def test_transcripts_are_scored_once_and_keep_their_interval_beside_seeds():
    several = scores((1, 2))
    wer = several.iloc[:1].assign(
        system="canary", stage="transcribed", role="all", metric="wer", low=0.1, high=0.2,
        definition="Word error rate.",
    )  # fmt: skip
    table = paper_table("my_study", pd.concat([several, wer], ignore_index=True))
    last = table.cells.iloc[-1]
    assert (last["system"], last["interval"]) == ("canary", "[0.100, 0.200]")


def body(latex: str) -> list[str]:
    return [line for line in latex.splitlines() if line.endswith(r"\\") and "&" in line]


def test_latex_has_nothing_that_stops_a_typesetter(found):
    """An underscore in a system's name, or a per cent sign in a source, ends a compilation."""
    table = paper_table("my_study", found)
    latex = table.latex()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in latex
    plain = latex.split("\n", 1)[1]
    loose = re.sub(r"\\[&%$#_{}]|\$[-\\a-z]+\$|\\label\{[^}]*\}", "", plain)
    assert not re.findall(r"[%$#_^~<>|]|[^\x00-\x7f]", loose)
    rows = body(latex)
    assert len(rows) >= len(table.cells)
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == len(table.cells.columns) - 1, row
    depth = re.sub(r"\\[{}]", "", latex)
    assert depth.count("{") == depth.count("}")
    assert depth.count(r"\begin{") == depth.count(r"\end{") == 1
    assert r"text\_only & raw & test & pooled & Macro-F1" in latex
    assert r"fold mean \& all" in latex


def test_markdown_is_one_table_whatever_the_names_hold(found):
    hostile = found.assign(label=found["label"].str.replace("angry", "a|b"))
    table = paper_table("my_study", hostile)
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert len(lines) == len(table.cells) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.cells.columns) + 1}


def test_a_scope_stands_before_the_metric(found, monkeypatch):
    """Pooled and fold-mean scores are two numbers: neither may stand for the other."""
    monkeypatch.setattr(
        "serflow.report.results.CELL",
        ["system", "stage", "role", "scope", "metric", "label", "hypothesis"],
    )
    both = pd.concat([found.assign(scope="pooled"), found.assign(scope="fold mean", value=0.1)])
    cells = paper_table("my_study", both).cells
    assert list(cells.columns[:5]) == ["system", "stage", "rows", "scope", "metric"]
    assert set(cells.loc[cells["scope"] == "fold mean", "value"]) == {"0.100"}
