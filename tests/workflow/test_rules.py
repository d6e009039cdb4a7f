"""The rules keep to the house: thin shims, logged, measured, free of computing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from runs import ROOT, snakemake

RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in RULES}
BLOCKS = {
    name: block
    for text in TEXTS.values()
    for name, block in re.findall(
        r"^(?:rule|checkpoint) (\w+):\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL
    )
}
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))


@pytest.mark.parametrize("rule", BLOCKS)
def test_every_rule_runs_the_script_of_its_name_with_log_and_pinned_environment(rule):
    block = BLOCKS[rule]
    assert f'"../scripts/{rule}.py"' in block
    assert re.search(r"\n    (run|shell):", block) is None, "rules compute nothing"
    for directive in ("log:", "conda:", "code="):
        assert directive in block, directive


@pytest.mark.parametrize("rule", BLOCKS)
def test_the_code_digest_is_that_of_the_rules_own_script(rule):
    assert re.search(rf'PLAN\.code\(\s*"{rule}\.py"', BLOCKS[rule])


def test_every_script_belongs_to_a_rule():
    assert {path.stem for path in SCRIPTS} == set(BLOCKS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_scripts_stay_shims(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 75


def test_the_library_never_sees_snakemake():
    for path in (ROOT / "workflow/scripts/serflow").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) snakemake", path.read_text(), re.MULTILINE), path


def test_imports_point_down_in_the_list_of_the_architecture():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    block = page[page.index("\nreport  ") :].split("```")[0].strip("\n")
    level = {
        name: row
        for row, line in enumerate(block.splitlines())
        for name in re.split(r"\s{2,}", line)[0].split()
    }
    library = ROOT / "workflow/scripts/serflow"
    for path in library.rglob("*.py"):
        own = path.relative_to(library).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("serflow")):
                continue
            parts = node.module.split(".")
            for other in [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]:
                assert level[own] <= level[other], f"{path} imports {other}"


RIGHT_OF_THE_BOUNDARY = [
    "posteriors", "predictions", "unlabelled", "submission.formats", "rebalancing", "stacking", "priors",
    "evaluation.posteriors", "evaluation.attributes", "evaluation.transcripts", "evaluation.comparisons",
    "prior_estimation", "prior_sensitivity", "significance", "fusion", "metrics",
    "fold_intervals", "resampling",
    "equal_error", "intervals", "word_errors", "report.page", "report.figures", "report.provenance",
    "report.transcripts", "report.leakage", "report.attributes", "report.grids", "leakage.audit",
    "given", "given_files",
    "held_out", "alignment", "crossing", "log_posteriors", "recalibration", "report.fusions", "report.reliability", "report.significance",
    "report.rebalancing", "report.fold_tables",
    "attributes", "concordance", "attribute_fusion", "grids", "calibration", "reliability", "report.paper_tables",
]  # fmt: skip


def test_nothing_right_of_the_frozen_boundary_imports_torch():
    modules = ", ".join(f"serflow.{m}" for m in RIGHT_OF_THE_BOUNDARY)
    code = f"import {modules}, sys; print([m for m in ('torch', 'nemo') if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "workflow/scripts", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.strip() == "[]"


LISTED = "print('imported:', *sorted({name.split('.')[0] for name in sys.modules}))"
HEAVY = {"torch", "transformers", "nemo", "sklearn", "librosa"}


def imported(code):
    out = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{LISTED}"],
        cwd=ROOT, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return set(out.partition("imported: ")[2].split())


def test_nothing_of_ours_imports_pandas_or_torch_into_the_snakefile():
    """Every cluster job starts a Snakemake of its own: seconds of imports would be hours."""
    text = "\n".join([*TEXTS.values(), (ROOT / "Snakefile").read_text(encoding="utf-8")])
    ours = sorted(set(re.findall(r"^from (serflow[\w.]*) import", text, re.MULTILINE)))
    assert "serflow.plan" in ours
    found = imported(f"sys.path.insert(0, 'workflow/scripts')\nimport {', '.join(ours)}")
    assert "pydantic" in found
    assert not found & {"pandas", "numpy", *HEAVY}


def test_a_dry_run_never_imports_torch():
    """Snakemake itself and its Slurm plugin import pandas where it is installed; nobody torch."""
    found = imported(
        "from snakemake.cli import main\n"
        "try:\n    main(['-n', '--quiet'])\nexcept SystemExit:\n    pass"
    )
    assert {"snakemake", "serflow"} <= found
    assert not found & HEAVY


def test_the_slurm_profile_plans_the_same_jobs():
    arguments = ["-n", "--quiet", "host", "--forceall"]
    local = snakemake(ROOT, "--cores", "all", *arguments).stdout
    slurm = snakemake(ROOT, "--profile", "slurm", *arguments).stdout

    def jobs(text):
        return sorted(re.findall(r"^\s+output: (.*)$", text, re.MULTILINE))

    assert jobs(local) == jobs(slurm)
    assert jobs(local)


def test_the_slurm_profile_takes_the_sites_account_and_partition():
    out = snakemake(
        ROOT, "--profile", "slurm", "-n", "--forceall",
        SER_SLURM_ACCOUNT="speech", SER_SLURM_PARTITION="long",
    ).stdout  # fmt: skip
    assert "slurm_account=speech" in out
    assert "slurm_partition=long" in out


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("retries", 2, "a job that ran out of memory is lost"),
        ("slurm-status-attempts", 3600, "one failed query, and all jobs are forgotten (207)"),
        (
            "slurm-status-command",
            "sacct",
            "its wrapper is not asked, and what it mends is not mended",
        ),
        ("slurm-no-requeue", True, "a requeued job runs beside its retry (109, 353)"),
        ("max-status-checks-per-second", 1, "the scheduler is swamped"),
    ],
)
def test_the_slurm_profile_meets_the_traps_of_its_plugin(key, value, fault):
    assert yaml.safe_load((ROOT / "slurm/profile.yaml").read_text())[key] == value, fault


@pytest.mark.parametrize("rule", BLOCKS)
def test_no_rule_retries_inside_of_its_slurm_job(rule):
    """With the old memory, in the same allocation (plugin issues 284, 348)."""
    assert not re.search(r"^    retries:", BLOCKS[rule], re.MULTILINE)


NEEDS_INTERNET = {"download_corpus", "fetch_model", "fetch_sonar"}


@pytest.mark.parametrize("rule", BLOCKS)
def test_a_rule_is_local_or_asks_for_a_class(rule):
    """A rule that is neither would be a Slurm job of the default memory, or one of a second."""
    local = "    localrule: True\n" in BLOCKS[rule]
    assert local != ("**PLAN.asks(" in BLOCKS[rule])
    assert local or "    threads: PLAN.threads(" in BLOCKS[rule]
    assert local or rule not in NEEDS_INTERNET, "compute nodes have none"


def test_rules_that_need_the_internet_are_known():
    """Whoever downloads belongs in the list above."""
    words = re.compile(r"import (download|fetch|acquire|fetch_sonar)\b|serflow\.acquisition")
    found = {path.stem for path in SCRIPTS if words.search(path.read_text(encoding="utf-8"))}
    assert found == NEEDS_INTERNET


def test_arrays_are_never_held_back_for_jobs_that_a_limit_keeps_away():
    """The plugin loses what it holds back (issue 473)."""
    profile = yaml.safe_load((ROOT / "slurm/profile.yaml").read_text())
    (arrays,) = (value for key, value in profile.items() if key.startswith("?if site.arrays"))
    assert arrays["jobs"] >= 100_000
    assert int(arrays["max-jobs-per-timespan"].split("/")[0]) >= 100_000


def test_profiles_do_not_fight_over_keys():
    """profiles/default overrides any other profile key by key."""
    default = yaml.safe_load((ROOT / "profiles/default/profile.yaml").read_text())
    slurm = yaml.safe_load((ROOT / "slurm/profile.yaml").read_text())
    assert not set(default) & {*slurm, *slurm["?if site.arrays"], *slurm["?else"]}


def test_environments_pin_what_the_lock_file_pins():
    lock = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines())
    lock = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lock.items()}
    for file in (ROOT / "envs").glob("*.yaml"):
        (pip,) = (x["pip"] for x in yaml.safe_load(file.read_text())["dependencies"] if isinstance(x, dict))  # fmt: skip
        for pin in pip:
            name, version = pin.split("==")
            name = re.sub(r"[-_.]+", "-", name.split("[")[0]).lower()
            assert lock[name] == version, f"{file.name}: {pin}; run `make lock`"


def test_every_direct_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lock = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "requirements.lock").read_text().splitlines()
    }
    for dependency in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]:
        name = re.match(r"[\w.-]+", dependency)[0]
        assert re.sub(r"[-_.]+", "-", name).lower() in lock


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("studes=[demo]", "unknown key 'studes'; did you mean 'studies'?"),
        ("studies=[demoo]", "did you mean 'demo'?"),
        ("seeds=[]", "seeds"),
    ],
)
def test_a_bad_setting_stops_before_any_job_with_one_clear_message(config, message):
    done = snakemake(ROOT, "-n", "--config", config, check=False)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout


def test_the_workflow_passes_snakemakes_own_lint():
    assert snakemake(ROOT, "--lint", check=False).returncode == 0


def test_every_test_file_is_run_by_one_of_the_two_test_commands():
    """A new folder of tests must not stay unrun: `make test` runs testpaths, CI tests/slurm too."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    collected = settings["tool"]["pytest"]["ini_options"]["testpaths"]
    assert " tests/slurm\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "make test-slurm" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    folders = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/test_*.py")}
    assert folders == {*collected, "tests/slurm"}


def test_paths_in_the_repository_are_nobodys_machine():
    out = subprocess.run(
        ["git", "grep", "-nIE", r"(^|[^.\w])/(home|root|Users)/", "--", ".", ":!tests"],
        cwd=ROOT, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert out == "", Path(out)
