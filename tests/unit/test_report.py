"""The report says what the tables say, in one file that needs nothing else."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined

from serflow.config.fusions import PriorSettings
from serflow.config.study import StudyConfig
from serflow.evaluation.comparisons import compare
from serflow.evaluation.rows import Evaluation
from serflow.leakage.audit import AUDIT
from serflow.metrics import METRICS
from serflow.report import fusions, grids, rebalancing, reliability, significance
from serflow.report.captions import caption_words
from serflow.report.figures import draw_all
from serflow.report.formats import DASH, number, signed
from serflow.report.headline import headline
from serflow.report.leakage import contrasts, contrasts_table
from serflow.report.page import render
from serflow.report.provenance import Commit, Provenance, collect
from serflow.report.results import ContrastResults, Results, read_results
from serflow.report.sections import confusion_tables, fold_means_table, scores_table
from serflow.report.transcripts import cost_table, speed_table
from serflow.tables import COMPARISONS, FOLDS, SCORES, SKIPPED, TRANSCRIPTS, UTTERANCES
from synthetic_study import SEVEN, SIX, TWO_SEEDS, config_of, make

SECTIONS = [
    "result",
    "scores",
    "recall",
    "confusions",
    "comparisons",
    "fusion",
    "priors",
    "leakage",
    "data",
]


def provenance_of(results: Results) -> Provenance:
    return Provenance(Commit("0" * 40, "2026-01-01"), "3.11", {"numpy": "2"}, "cafe", [], {})


def page_of(results: Results, provenance: Provenance | None = None) -> str:
    return render(results, draw_all(results), provenance or provenance_of(results))


@pytest.fixture(scope="module")
def six() -> Results:
    return make(SIX)


@pytest.fixture(scope="module")
def seven() -> Results:
    return make(SEVEN)


@pytest.fixture(scope="module")
def two_seeds() -> Results:
    return make(TWO_SEEDS)


@pytest.fixture(scope="module")
def pages(six, seven, two_seeds) -> dict[str, str]:
    return {results.study: page_of(results) for results in (six, seven, two_seeds)}


class Reader(HTMLParser):
    """Collects what the tests ask of a page."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.figures: list[dict] = []
        self.wrong: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        names = ("src", "href", "xlink:href", "action", "data", "srcset")
        self.links += [given[name] for name in names if given.get(name)]
        if tag == "svg":
            self.figures.append(given)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def text_of(page: str) -> str:
    return " ".join(Reader(page).text.split())


@pytest.mark.parametrize("study", ["six", "seven", "two_seeds"])
def test_the_page_is_whole_and_needs_nothing_else(pages, study):
    page = pages[study]
    reader = Reader(page)
    assert not reader.wrong
    assert not reader.open, "every tag is closed"
    assert len(reader.ids) == len(set(reader.ids)), "ids are unique across the figures"
    outside = [link for link in reader.links if not link.startswith(("#", "data:,"))]
    assert not outside
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert not re.search(r"url\((?!#)|@import|<script|<iframe|\son\w+=", page)
    assert set(SECTIONS) <= set(reader.ids)
    assert reader.figures
    assert all(figure.get("aria-label") for figure in reader.figures)
    assert "nan" not in text_of(page).split()


def test_no_asr_no_section(pages):
    assert 'id="transcripts"' in pages["six"]
    assert "transcripts" not in pages["seven"]
    assert "WER" not in text_of(pages["seven"])


def test_every_whole_metric_of_test_and_dev_is_printed_as_the_table_has_it(six, pages):
    text = text_of(pages["six"])
    rows = six.scores[six.scores["metric"].isin(["macro_f1", "micro_f1", "uar", "wa"])]
    assert len(rows) == 4 * 6 * 2
    for row in rows.itertuples():
        assert f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" in text
    for definition in six.scores["definition"].unique():
        assert definition in text
    assert "paper 0.356 (1)" in text
    assert "Some authors, 2024, table 3" in text


def test_confusions_of_the_page_are_those_of_the_table(six):
    cells = six.scores[(six.scores["metric"] == "confusion") & (six.scores["role"] == "test")]
    for (system, stage), part in cells.groupby(["system", "stage"]):
        counts = six.confusion(system, stage)
        for row in part.itertuples():
            i, j = six.classes.index(row.label), six.classes.index(row.hypothesis)
            assert counts[i, j] == row.value
        assert counts.sum() == part["n"].iloc[0]
        printed = dict(confusion_tables(six))[f"{system}, {stage}"].rows
        for row, expected in zip(printed, counts, strict=True):
            shares = [f"{100 * n / expected.sum():.1f}%" for n in expected]
            assert [cell.value for cell in row[1:]] == [f"{n:.0f}" for n in expected]
            assert [cell.spread for cell in row[1:]] == shares


def test_the_headline_is_the_comparison_of_the_table(six):
    text = " ".join(headline(six).sentences)
    fused = six.scores[(six.scores["metric"] == "macro_f1") & (six.scores["role"] == "test")]
    (best,) = (r for _, r in fused.iterrows() if r["system"] == six.config.primary)
    assert f"the fusion {best['system']}" in text
    rows = six.comparisons[six.comparisons["system"] == best["system"]]
    rows = rows[rows["baseline_stage"] != "fused"]
    row = rows.sort_values("difference").iloc[0]  # the better single system is the nearer one
    assert f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" in text
    assert "dev minus test" in text
    assert "(declared as the primary result)" in text
    part = replace(six, config=six.config.model_copy(update={"primary": None}))
    assert "declared" not in " ".join(headline(part).sentences)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.02, 0.05, "includes zero: no difference is shown"),
        (0.01, 0.05, "above zero: the fusion is better"),
        (-0.05, -0.01, "below zero: the fusion is worse"),
    ],
)
def test_the_headline_says_how_the_interval_lies(six, low, high, said):
    moved = replace(six, comparisons=six.comparisons.assign(low=low, high=high))
    assert said in " ".join(headline(moved).sentences)


def test_seeds_are_averaged_and_no_seed_is_printed_as_the_result(two_seeds, pages):
    text = text_of(pages["two_seeds"])
    rows = two_seeds.scores
    rows = rows[(rows["metric"] == "uar") & (rows["role"] == "test") & (rows["stage"] == "raw")]
    for _, part in rows.groupby("system"):
        values = part["value"].to_numpy()
        assert len(values) == 2
        assert f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" in text
    assert "over 2 seeds" in text
    assert "of 2 seeds" in text


def test_hostile_titles_and_class_names_stay_text():
    hostile = '</title><script>alert("x")</script><img src=http://e.org/x onerror=alert(1)>'
    classes = ("<b>angry</b>", "$\\frac{a}{$", "a&b\"'")
    page = page_of(make(replace(SIX, classes=classes, title=hostile, asr=False, per_cell=4)))
    reader = Reader(page)
    assert not {"script", "img"} & set(reader.tags)
    assert "<b>angry" not in page
    assert not reader.wrong
    assert hostile in reader.text
    assert "<b>angry</b>" in reader.text


def test_paths_of_the_machine_are_not_shown(six, pages):
    assert "/home/ann" not in pages["six"]
    assert "/srv/models" not in pages["six"]
    assert "x.wav is empty" in text_of(pages["six"])
    assert str(Path.cwd()) not in pages["six"]


def test_same_tables_same_bytes(six, pages):
    again = make(SIX)
    assert page_of(again) == pages["six"]
    first, second = draw_all(six), draw_all(again)
    assert all(first[name].file() == second[name].file() for name in first)


def test_three_systems_have_weights_but_no_curve():
    recipe = replace(
        SIX, study="three", systems={"a": 1.5, "b": 2.0, "c": 2.5}, asr=False,
        fusions=("interpolation",),
    )  # fmt: skip
    results = make(recipe)
    figures = draw_all(results)
    assert not figures["interpolation"].panels
    assert "no curve" in figures["interpolation"].file()
    text = text_of(page_of(results))
    assert "no curve" in text
    weights = results.fusions[1, "interpolation"]["fits"][0]["weights"]
    assert all(number(weight, 2) in text for weight in weights)


def test_a_study_without_fusions_has_a_headline():
    results = make(replace(SIX, study="plain", asr=False, fusions=(), systems={"only": 1.5}))
    assert "has no fusion" in " ".join(headline(results).sentences)
    assert "The study has no fusion." in text_of(page_of(results))


def test_two_classes(six):
    results = make(replace(SIX, classes=("calm", "angry"), asr=False))
    assert "angry against calm" in text_of(page_of(results))


def test_written_tables_read_back_to_the_same_page(six, pages, tmp_path):
    """As the rule calls it: from files, with costs and facts beside them."""
    root = tmp_path / "results"
    paths = write(six, root)
    config = six.config.model_dump(mode="json")
    results = read_results("six", config, **paths)
    assert page_of(results) == pages["six"]
    benchmarks = root / "six" / "benchmarks"
    head = "s\th:m:s\tmax_rss\tcpu_time\n"
    (benchmarks / "train_fold.speech-seed-1-fold-0.tsv").write_text(f"{head}90\t-\t2048\t80\n")
    (benchmarks / "train_fold.gone-seed-1-fold-0.tsv").write_text(f"{head}7777\t-\t9\t9\n")
    (benchmarks / "evaluate_study.tsv").write_text(f"{head}0.2\t-\tNA\tNA\n")
    fact = root / "six" / "seed-1" / "systems" / "speech" / "fold-0" / "facts.json"
    fact.parent.mkdir(parents=True)
    fact.write_text(json.dumps({"trainable_parameters": 1234567, "chosen": {"C": 10}, "h": [1]}))
    found = collect(root, results, "cafe")
    by_title = {cost.title: cost for cost in found.costs}
    assert by_title["Train and predict: speech"].seconds == 90
    assert by_title["Train and predict: text"].jobs == 0
    assert "Train and predict: gone" not in by_title, "a system of an older study costs nothing now"
    text = text_of(page_of(results, found))
    assert "Train and predict: speech 1 1.5 min 1.3 min 2.0 GiB" in text
    assert "Evaluate 1 0.2 s not measured not measured" in text
    assert "Train and predict: text – not measured" in text
    assert "chosen C 10" in text
    assert str(tmp_path) not in page_of(results, found)


def write(results: Results, root: Path) -> dict:
    """The files of a study as the rules write them."""
    study, corpus = root / results.study, root / "corpora" / results.study
    (study / "benchmarks").mkdir(parents=True)
    paths = {"scores": study / "scores.parquet", "comparisons": study / "comparisons.parquet"}
    SCORES.write(results.scores, paths["scores"])
    COMPARISONS.write(results.comparisons, paths["comparisons"])
    paths["posteriors"] = []
    for (seed, stage, system), table in results.posteriors.items():
        paths["posteriors"].append(study / f"seed-{seed}/posteriors/{stage}/{system}.parquet")
        table.write(paths["posteriors"][-1])
    paths["fusions"] = []
    for (seed, name), fitted in results.fusions.items():
        paths["fusions"].append(study / f"seed-{seed}/fusions/{name}.json")
        paths["fusions"][-1].parent.mkdir(parents=True, exist_ok=True)
        paths["fusions"][-1].write_text(json.dumps(fitted))
    digest = {"digest": results.folds_digest}
    for name, table in (("utterances", UTTERANCES), ("folds", FOLDS), ("audit", AUDIT)):
        paths[name] = study / f"{name}.parquet"
        table.write(getattr(results, name), paths[name], digest if name == "folds" else {})
    for name, file in (("fold_notes", "folds.json"), ("dropped", "dropped.json")):
        paths[name] = study / file
        paths[name].write_text(json.dumps(getattr(results, name)))
    paths["skipped"] = [corpus / "skipped.parquet"]
    SKIPPED.write(results.skipped.drop(columns="corpus"), paths["skipped"][0])
    paths["transcripts"] = []
    if results.transcripts is not None:
        paths["transcripts"].append(corpus / "transcripts" / "tiny-canary.parquet")
        TRANSCRIPTS.write(results.transcripts, paths["transcripts"][0])
    return paths


CAPTIONS = Path(__file__).parents[2] / "workflow" / "report"


@pytest.mark.parametrize("path", sorted(CAPTIONS.glob("*.rst")), ids=lambda path: path.stem)
@pytest.mark.parametrize("recipe", [SIX, SEVEN, TWO_SEEDS, replace(SIX, fusions=())])
def test_captions_are_valid_and_true(path, recipe):
    title = "*Stars* and `ticks` and trailing_"
    config = StudyConfig.model_validate(config_of(replace(recipe, title=title)))
    job = SimpleNamespace(
        params=SimpleNamespace(words=caption_words(config)),
        config={"studies": ["six", "seven"], "seeds": None},
    )
    template = Environment(undefined=StrictUndefined).from_string(path.read_text(encoding="utf-8"))
    problems = io.StringIO()
    parts = publish_parts(
        template.render(snakemake=job),
        writer="html",
        settings_overrides={"warning_stream": problems, "report_level": 1},
    )
    assert not problems.getvalue()
    text = " ".join(re.sub(r"<[^>]*>", "", parts["body"]).split())
    if path.stem == "workflow":
        assert "six, seven" in text
        return
    assert title in text
    if path.stem == "interpolation":
        assert ("no curve to draw" in text) == (not recipe.fusions)
        on = "dev rows" if recipe.official else "test rows of the other parts"
        assert (on in text) == bool(recipe.fusions)
    if path.stem == "scores":
        assert ("standard deviation over seeds 1, 2" in text) == (len(recipe.seeds) > 1)


@pytest.mark.parametrize("target", ["em", "bbse"])
def test_an_estimated_prior_is_called_estimated(six, target):
    """A published score has to say that its test rows were looked at."""
    config = six.config.model_copy(update={"prior": PriorSettings(target=target)})
    assert "estimated on the test rows" in caption_words(config)["target"]
    assert "estimated on the test rows of each fold" in page_of(replace(six, config=config))


def test_the_order_of_keys_in_a_study_changes_no_caption():
    config = config_of(SEVEN)
    turned = {**config, "systems": dict(reversed(config["systems"].items()))}
    first, second = (caption_words(StudyConfig.model_validate(c)) for c in (config, turned))
    assert str(first) == str(second)


def test_the_protocols_stand_side_by_side_and_the_gain_is_theirs_minus_ours(six):
    """A leaky number without the honest one beside it is how such numbers get believed."""
    leaky = six.scores.copy()
    leaky["value"] += 0.25 * ((leaky["metric"] == "uar") & (leaky["role"] == "test"))
    leaky = leaky[leaky["system"] != six.systems[1]]
    config = six.config.model_dump()
    accepted = [{"overlap": "speaker", "reason": "To show what it is worth."}]
    config["contrasts"] = {
        "by_chance": {
            "folds": {"protocol": "k_fold", "k": 3, "dev": "next_fold"},
            "audit": {"accept": accepted},
        }
    }
    config = StudyConfig.model_validate(config)
    results = replace(
        six, config=config, contrasts={"by_chance": ContrastResults(leaky, six.audit)}
    )
    table = contrasts_table(results)
    assert table.groups == [("", 1), ("The study's own protocol", 4), ("by chance", 5)]
    assert table.columns[1:5] == ["UA", "Macro-F1", "WA", "EER"]
    assert [row[-1] for row in table.rows] == ["+0.250"] * len(table.rows)
    assert six.systems[1] not in {row[0].value for row in table.rows}
    (shown,) = contrasts(results)
    assert shown.protocol == "k fold, 3 folds"
    reader = Reader(page_of(results))
    assert not reader.wrong
    assert f"{METRICS['uar'].title} gained" in reader.text
    assert "+0.250" in reader.text


def test_the_lowest_error_rate_is_in_bold_and_the_highest_accuracy(six):
    table, _ = scores_table(six)
    at = dict(zip([title for title, _ in table.groups], [0, *range(1, 99, 2)], strict=False))
    for title, best in (("WA", max), ("Hard EER", min), ("EER", min)):
        cells = [row[at[title]] for row in table.rows]
        values = [float(cell.value) for cell in cells]
        bold = {float(cell.value) for cell in cells if cell.best}
        assert bold == {best(values)} != {max(values), min(values)}


JOB = {"device": "A100", "dtype": "bfloat16", "audio_s": 3600.0, "wall_s": 30.0}


def test_recognisers_are_named_with_revision_and_speed_over_all_their_jobs(six):
    model = {
        "name": "nvidia/canary-1b",
        "origin": "nvidia/canary-1b",
        "revision": "0123456789abcdef",
    }
    jobs = [JOB | {"model": model}, JOB | {"model": model, "wall_s": 10.0}, {"model": model}]
    table = speed_table(replace(six, asr_jobs={"tiny-canary": jobs, "gold": []}))
    assert table.rows == [
        [
            "tiny-canary",
            "nvidia/canary-1b",
            "0123456789ab",
            "A100",
            "bfloat16",
            "2.0 h",
            "180.0",
            "3",
        ]
    ]


def test_what_recognition_errors_cost_is_the_paired_difference_of_the_twins():
    """The same system on the corpus's own texts: by how much, and whether by more than chance."""
    results = make(replace(SIX, systems={"text": 2.0, "text_gold": 1.2}, fusions=()))
    asr = {"tiny-canary": {"engine": "canary", "model": "c"}, "gold": {"engine": "reference"}}
    family = {"family": "text_classifier", "model": "m"}
    systems = {
        "text": family | {"transcripts": "tiny-canary"},
        "text_gold": family | {"transcripts": "gold"},
    }
    config = results.config.model_dump() | {"asr": asr, "systems": systems}
    config = StudyConfig.model_validate(config)
    evaluation = Evaluation("six", results.utterances, resamples=200, unit="utterance", seed=0)
    tables = {(stage, system): t for (_, stage, system), t in results.posteriors.items()}
    compared = compare(evaluation, tables, twins=config.transcript_twins())
    frame = pd.DataFrame(compared, columns=list(COMPARISONS.columns))
    results = replace(results, config=config, comparisons=frame)
    table = cost_table(results)
    assert [(row[0].value, row[0].spread, row[1]) for row in table.rows] == [
        ("text", "raw", "tiny-canary"),
        ("text", "rebalanced", "tiny-canary"),
    ]
    mine, gold = (results.score(s, "raw", "test", "macro_f1").value for s in ("text", "text_gold"))
    assert gold > mine
    assert table.rows[0][4].value == signed(mine - gold)
    reader = Reader(page_of(results))
    assert not reader.wrong
    assert "What recognition errors cost" in reader.text


def test_drawing_imports_no_torch_and_writes_nothing_to_the_users_home(tmp_path):
    code = (
        "import sys; import serflow.report.page, serflow.report.figures as figures; "
        "figures.Figure('x', [], 'nothing').file(); "
        "assert not {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CAPTIONS.parent / "scripts")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("MPLCONFIGDIR", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.iterdir())


def test_a_grid_is_told_point_by_point_and_as_a_heat_map(six):
    """With the chosen point alone, nobody sees how flat the grid is, or that it is cut off."""
    points = {
        f"x--rank-{rank}--alpha-{alpha}": {"lora.rank": rank, "lora.alpha": alpha}
        for rank in (16, 64)
        for alpha in (32, 128)
    }
    scores = {point: {"0": 0.5 + i / 10, "1": 0.6 + i / 10} for i, point in enumerate(points)}
    grid = {
        "points": points,
        "over": ["lora.rank", "lora.alpha"],
        "choose_on": "cross_validation",
        "objective": "macro_f1",
        "scores": scores,
        "folds": dict.fromkeys("01", "x--rank-64--alpha-128"),
    }
    (told,) = grids.section(replace(six, grids={(1, "x"): grid}))
    assert "4 points, 2 folds and 1 seed each; Macro-F1 on the folds' test rows" in told.told
    assert "the best of 4 on the very rows that chose it: optimistic" in told.told
    best, *others = told.table.rows
    assert best[:2] == ["64", "128"]
    assert (best[2].value, best[2].best, best[3]) == ("0.850", True, "2")
    assert [row[3] for row in others] == ["–"] * 3
    assert told.heat.groups == [("rank", 1), ("alpha", 2)]
    assert [[cell.value for cell in row[1:]] for row in told.heat.rows] == [
        ["0.550", "0.650"],
        ["0.750", "0.850"],
    ]
    assert told.heat.rows[1][2].share == 1.0
    page = page_of(replace(six, grids={(1, "x"): grid}))
    assert 'href="#grids"' in page
    assert 'href="#grids"' not in page_of(six)


def test_every_two_tables_of_the_last_stages_stand_in_the_matrix_once_with_each_sign(six):
    table = significance.matrix(six)
    names = [(row[0].value, row[0].spread) for row in table.rows]
    assert names == [pair for pair in six.tables if pair[1] != "raw"]
    cells = [row[1:] for row in table.rows]
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            if i == j:
                assert cell == DASH
                continue
            a, b = (six.score(*names[k], "test", "macro_f1").value for k in (i, j))
            assert cell.value == signed(a - b)
            assert cell.spread == cells[j][i].spread, "a pair has one p"
            assert cell.best == cells[j][i].best
    held = six.comparisons["p_holm"] < 0.05
    assert any(cell.best for row in cells for cell in row if cell != DASH) == held.any()


def test_what_a_fusion_loses_beyond_its_rows_is_told_beside_its_best_system(six):
    """TalTech saw logistic regression overfit: a dev score alone hides it."""
    rows = {row[0]: row for row in fusions.gaps_table(six).rows}
    for name in ("interpolation", "logistic_regression"):
        (fit,) = six.fusions[1, name]["fits"]
        dev, test = (six.score(name, "fused", role, "macro_f1").value for role in ("dev", "test"))
        assert fit["macro_f1"] == pytest.approx(dev)
        assert rows[name][1:3] == [number(dev), number(test)]
        assert rows[name][3].value == signed(test - dev)
        best = max(fit["alone"], key=fit["alone"].get)
        assert rows[name][4].spread == best
        assert fit["alone"][best] == pytest.approx(
            six.score(best, "rebalanced", "dev", "macro_f1").value
        )


def test_the_curve_of_wrong_targets_goes_through_both_stages(six):
    (panel, _) = rebalancing.sensitivity(six).panels
    raw, moved = (six.score("speech", s, "test", "macro_f1").value for s in ("raw", "rebalanced"))
    assert f"{number(raw)} without, {number(moved)} at the target" in panel.alt


def test_a_temperature_is_told_and_its_unchanged_decisions_are_printed_once():
    results = make(replace(SIX, asr=False, calibration="temperature"))
    assert ("speech", "calibrated") in results.tables
    assert ("speech", "calibrated") not in results.deciding
    note = reliability.calibration_note(results)
    found = results.calibrations[1, "speech"]["fits"][0]["learnt"]["temperature"]
    assert f"speech {found:.2f}" in note
    assert "changes no decision" in note
    told = reliability.scores_table(results)
    assert [row[0].spread for row in told.rows][:3] == ["raw", "calibrated", "rebalanced"]
    assert not results.comparisons["stage"].eq("calibrated").any()
    assert "Reliability of the posteriors" in page_of(results)


def test_a_calibration_that_changes_decisions_is_compared_with_raw_posteriors():
    results = make(replace(SEVEN, calibration="vector", resamples=100))
    assert results.deciding == results.tables
    rows = results.comparisons[results.comparisons["stage"] == "calibrated"]
    assert set(rows["baseline_stage"]) == {"raw"}
    table = fold_means_table(results)
    assert len(table.rows) == len(results.tables)
    assert table.rows[0][2].startswith("± ")
