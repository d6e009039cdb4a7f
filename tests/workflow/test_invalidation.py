"""Only what is invalidated reruns: Snakemake's plan on the real workflow after a full run.

Snakemake by itself plans nothing when an imported module changes, and everything when results are
copied to a fresh clone; these tests hold the digests in `params` to what users expect.
"""

from __future__ import annotations

import random
import re
import shutil

import pandas as pd
import pytest
import yaml

from runs import ROOT, copy_workflow, edited, planned, snakemake
from serflow.tables import TRANSCRIPTS

BOTH = ["--config", "studies=[demo,small]"]
AFTER_POSTERIORS = [
    f"{rule} study={{0}}" for rule in ("evaluate_study", "write_report", "write_tables")
]


def plan(folder):
    return planned(folder, *BOTH)


def study_tail(study, *jobs):
    """The jobs, and the evaluation and report that follow from them."""
    return sorted([*jobs, *(job.format(study) for job in AFTER_POSTERIORS)])


def system_chain(study, system, folds, seed=1):
    """All jobs of one system, its calibration where there is one, and its rebalancing."""
    return [
        *(f"train_fold study={study}, seed={seed}, system={system}, fold={f}" for f in folds),
        *(
            f"{rule} study={study}, seed={seed}, system={system}"
            for rule in ("export_posteriors", *CALIBRATED[study], "rebalance_posteriors")
        ),
    ]


def fusions(study, *names, seed=1):
    return [f"fuse_systems study={study}, seed={seed}, fusion={name}" for name in names]


CALIBRATED = {"demo": ["calibrate_posteriors"], "small": []}
DEMO_FUSIONS = fusions("demo", "interpolation", "logistic_regression", "mean")
DEMO_SYSTEMS = ("speech", "speech_lda", "text", "text_gold")


@pytest.fixture(scope="module")
def done(full_run, tmp_path_factory):
    """A copy of a complete run of the demo and of a small EmoDB-like study."""
    folder = tmp_path_factory.mktemp("invalidation") / "copy"
    shutil.copytree(full_run.folder, folder, symlinks=True)
    return folder


def test_nothing_is_planned_after_a_full_run(done):
    assert plan(done) == []


def test_touching_every_script_reruns_nothing(done):
    for path in (done / "workflow").rglob("*"):
        path.touch()
    assert plan(done) == []


def test_a_comment_or_docstring_edit_reruns_nothing(done):
    file = done / "workflow/scripts/serflow/fusion/__init__.py"
    with (
        edited(file, '"""Late fusion', '"""Late, late fusion'),
        edited(done / "workflow/scripts/train_fold.py", "import json", "# why\n\nimport json"),
    ):
        assert plan(done) == []


def test_key_order_in_a_study_reruns_nothing(done):
    path = done / "studies/demo.yaml"

    def shuffled(value):
        if not isinstance(value, dict):
            return value
        # Systems keep their order: it is the order of rows in the tables.
        items = [(k, shuffled(v)) for k, v in value.items()]
        random.Random(0).shuffle(items)
        return dict(items)

    text = path.read_text()
    data = yaml.safe_load(text)
    data["systems"] = {k: shuffled(v) for k, v in data["systems"].items()}
    data["folds"], data["asr"] = shuffled(data["folds"]), shuffled(data["asr"])
    with edited(path, text, yaml.safe_dump(dict(reversed(data.items())), sort_keys=False)):
        assert plan(done) == []


def test_results_copied_to_a_fresh_clone_rerun_nothing(done, tmp_path):
    clone = copy_workflow(tmp_path / "clone")
    shutil.copy2(done / "config.yaml", clone / "config.yaml")
    shutil.copy2(done / "studies/small.yaml", clone / "studies/small.yaml")
    shutil.copytree(done / "results", clone / "results", symlinks=True)
    shutil.copytree(done / ".snakemake", clone / ".snakemake", symlinks=True)
    assert plan(clone) == []


def test_a_learning_rate_retrains_one_system_alone(done):
    path = done / "studies/demo.yaml"
    rate = yaml.safe_load(path.read_text())["systems"]["text_gold"]["training"]["learning_rate"]
    twin = "    transcripts: gold\n"
    changed = f"{twin}    training: {{epochs: 12, batch_size: 16, learning_rate: {rate / 2}}}\n"
    with edited(path, twin, changed):
        assert plan(done) == study_tail("demo", *system_chain("demo", "text_gold", "0"))


def test_a_fusion_step_reruns_that_fusion_alone(done):
    with edited(done / "studies/demo.yaml", "step: 0.05", "step: 0.1"):
        assert plan(done) == study_tail("demo", *fusions("demo", "interpolation"))


def test_fusion_code_retrains_nothing(done):
    file = done / "workflow/scripts/serflow/fusion/interpolation.py"
    with edited(file, "CURVE_STEP =", "CURVE_STEP = 0 +"):
        assert plan(done) == sorted(
            study_tail("demo", *DEMO_FUSIONS) + study_tail("small", *fusions("small", "both"))
        )


def test_another_calibration_retrains_nothing(done):
    with edited(done / "studies/demo.yaml", "method: temperature", "method: vector"):
        jobs = plan(done)
    assert jobs == study_tail(
        "demo",
        *(
            f"{rule} study=demo, seed=1, system={system}"
            for system in DEMO_SYSTEMS
            for rule in ("calibrate_posteriors", "rebalance_posteriors")
        ),
        *DEMO_FUSIONS,
    )


def test_training_code_retrains_the_networks_and_not_the_functionals(done):
    with edited(done / "workflow/scripts/serflow/training/fit.py", "import", "import abc\nimport"):
        jobs = plan(done)
    assert jobs == study_tail(
        "demo",
        *system_chain("demo", "speech", "0"),
        "embed_fold study=demo, seed=1, system=speech, fold=0",
        *system_chain("demo", "speech_lda", "0"),
        *system_chain("demo", "text", "0"),
        *system_chain("demo", "text_gold", "0"),
        *DEMO_FUSIONS,
    )


def test_a_corpus_module_reruns_its_corpus_alone(done):
    file = done / "workflow/scripts/serflow/corpora/emodb.py"
    with edited(file, "from __future__", "import abc\nfrom __future__"):
        jobs = plan(done)
    assert jobs == sorted(small_from_listing())


def small_from_listing():
    """Everything of the small study."""
    corpus = ["list_utterances", "pack_audio", "extract_functionals", "extract_fingerprints"]
    study = ["select_utterances", "assign_folds", "audit_leakage"]
    return study_tail(
        "small",
        *(f"{rule} corpus=emodb" for rule in corpus),
        *(f"{rule} study=small" for rule in study),
        *system_chain("small", "svm", "012"),
        *system_chain("small", "lr", "012"),
        *fusions("small", "both"),
    )


def test_one_replaced_corpus_file_reruns_that_corpus(done, full_run):
    file = sorted(full_run.emodb.glob("wav/*.wav"))[0]
    with edited(file, b"RIFF", b"RIFF"):
        assert plan(done) == small_from_listing()


def test_a_new_fold_count_keeps_audio_transcripts_and_features(done):
    with edited(done / "studies/small.yaml", "k: 3", "k: 2"):
        assert plan(done) == study_tail(
            "small",
            "assign_folds study=small",
            "audit_leakage study=small",
            *system_chain("small", "svm", "01"),
            *system_chain("small", "lr", "01"),
            *fusions("small", "both"),
        )


def test_a_reason_worded_anew_audits_anew_and_trains_nothing(done):
    with edited(done / "studies/small.yaml", "every speaker says every", "all of them say each"):
        assert plan(done) == ["audit_leakage study=small", "write_report study=small"]


def test_a_new_audit_hides_no_other_reason_to_train(done):
    """Snakemake's plan left out the training, and the report came from the old posteriors."""
    study = done / "studies/small.yaml"
    with (
        edited(study, "every speaker says every", "all of them say each"),
        edited(study, "classifier: svm", "classifier: svm, inner_folds: 3"),
    ):
        assert plan(done) == study_tail(
            "small",
            "audit_leakage study=small",
            *system_chain("small", "svm", "012"),
            *fusions("small", "both"),
        )


REPLANNED = """
include: {rules!r}
rule all:
    input: "model", "text"
rule folds:
    input: "corpus"
    output: "folds"
    priority: 3
    shell: "cp {{input}} {{output}}"
checkpoint shards:
    input: "corpus"
    output: "shards"
    priority: 2
    shell: "cp {{input}} {{output}}"
rule audit:
    input: "folds"
    output: "audit"
    shell: "cp {{input}} {{output}}"
rule train:
    input: folds="folds", audit=ancient("audit")
    output: "model"
    shell: "cp {{input.folds}} {{output}}"
rule text:
    input: lambda w: checkpoints.shards.get().output
    output: "text"
    shell: "cp {{input}} {{output}}"
"""


def test_a_checkpoint_on_the_way_drops_no_planned_training(tmp_path):
    """Folds are new, the audit is not yet: when shards are known, Snakemake plans anew."""
    (tmp_path / "Snakefile").write_text(
        REPLANNED.format(rules=str(ROOT / "workflow/rules/ancient.smk"))
    )
    for corpus in ("one", "another"):
        (tmp_path / "corpus").write_text(corpus)
        said = snakemake(tmp_path, "--cores", "1").stdout
        order = re.findall(r"^local(?:rule|checkpoint) (\w+):", said, re.MULTILINE)
        assert order.index("folds") < order.index("shards") < order.index("audit"), said
        assert "train" in order, said
        assert (tmp_path / "model").read_text() == corpus


def test_a_new_address_of_one_corpus_reruns_nothing_of_the_others(done):
    file = done / "workflow/scripts/serflow/acquisition/sources.py"
    with edited(file, "https://www.openslr.org/17/", "https://example.org/17/"):
        assert plan(done) == []


def test_one_changed_transcript_retrains_the_text_system_alone(done):
    path = done / "results/corpora/demo/transcripts/demo-canary.parquet"
    saved = path.with_suffix(".saved")
    shutil.copy2(path, saved)
    try:
        frame, metadata = TRANSCRIPTS.read_with_metadata(path)
        frame.loc[frame.index[0], "text"] = "another text"
        TRANSCRIPTS.write(pd.DataFrame(frame), path, metadata)
        assert plan(done) == study_tail("demo", *system_chain("demo", "text", "0"), *DEMO_FUSIONS)
    finally:
        saved.replace(path)
    assert plan(done) == []


def test_a_run_that_stops_after_the_listing_still_sees_the_replaced_file(done, full_run, tmp_path):
    """The listing of a replaced recording is equal; it must not hide the recording."""
    folder = tmp_path / "copy"
    shutil.copytree(done, folder, symlinks=True)
    file = sorted(full_run.emodb.glob("wav/*.wav"))[0]
    with edited(file, b"RIFF", b"RIFF"):
        snakemake(folder, "--cores", "2", "--until", "list_utterances", *BOTH)
        jobs = plan(folder)
    assert "pack_audio corpus=emodb" in jobs
    assert not any("study=demo" in job for job in jobs)


def test_another_beam_transcribes_anew_and_divides_nothing(done):
    with edited(
        done / "studies/demo.yaml", "batch_seconds: 120", "batch_seconds: 120\n    beam: 2"
    ):
        assert plan(done) == study_tail(
            "demo",
            "transcribe_shard corpus=demo, asr=demo-canary, shard=0, shards=1",
            "join_transcripts corpus=demo, asr=demo-canary",
            *system_chain("demo", "text", "0"),
            *DEMO_FUSIONS,
        )


SPOKEN = """
title: Two shards
classes: [angry, happy]
corpora: {spoken: {source: table, constants: {label: angry, language: en}}}
folds: {protocol: stratified_k_fold, k: 2}
asr:
  canary:
    engine: canary
    model: results/models/demo-canary/model.nemo
    resources: cpu-small
    shards: 2
systems: {svm: {family: functionals}}
"""


def test_one_utterance_more_transcribes_one_shard_and_no_other(done, tmp_path):
    """The audio store changes as a whole; on a cluster that would be all of a night's work."""
    folder = tmp_path / "copy"
    shutil.copytree(done, folder, symlinks=True)
    corpus = tmp_path / "spoken"
    corpus.mkdir()
    files = sorted((done / "results/corpora/demo/source").rglob("*.wav"))[:9]
    for file in files:
        shutil.copy2(file, corpus / file.name)
    names = [file.name for file in files]
    (folder / "studies/spoken.yaml").write_text(SPOKEN, encoding="utf-8")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"studies": ["spoken"], "paths": {"spoken": str(corpus)}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    target = "results/corpora/spoken/transcripts/canary.parquet"

    def transcribed(paths):
        (corpus / "utterances.csv").write_text("\n".join(["path", *paths]) + "\n")
        log = snakemake(folder, "--cores", "2", target).stdout
        assert set(TRANSCRIPTS.read(folder / target)["utterance_id"]) == {
            f"spoken/{path}" for path in paths
        }
        return log.count("rule transcribe_shard:")

    assert transcribed(names[:8]) == 2
    assert transcribed(names) == 1
    assert transcribed(names) == 0
