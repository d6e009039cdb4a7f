"""What the rules ask of the settings: where models, corpora and tables are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from serflow.config.site import SiteConfig
from serflow.config.study import StudyConfig
from serflow.plan import Plan

ROOT = Path(__file__).parents[2]
HUB = "facebook/w2v-bert-2.0"


def plan(models=None, paths=None, **changes):
    data = yaml.safe_load((ROOT / "studies/demo.yaml").read_text(encoding="utf-8"))
    data["systems"]["speech"]["model"] = HUB
    study = StudyConfig.model_validate({**data, **changes})
    site = SiteConfig(models=models or {}, paths=paths or {})
    return Plan(site, {"demo": study}, ROOT / "workflow/scripts")


def test_a_hub_model_is_fetched_once_into_the_results():
    assert plan().model_file(HUB) == "results/models/hub/facebook--w2v-bert-2.0/model.json"
    assert plan().hub_models() == {"hub/facebook--w2v-bert-2.0": HUB}


def test_an_air_gapped_site_names_a_folder_and_nothing_is_fetched(tmp_path):
    (tmp_path / "config.json").touch()
    local = plan(models={HUB: str(tmp_path)})
    assert local.model_file(HUB) == str(tmp_path / "config.json")
    assert local.hub_models() == {}


def test_a_nemo_file_and_an_unpacked_folder_are_models_too(tmp_path):
    (tmp_path / "model_config.yaml").touch()
    assert plan().model_file("/data/canary.nemo") == "/data/canary.nemo"
    assert plan().model_file(str(tmp_path)) == str(tmp_path / "model_config.yaml")


def test_where_a_system_runs_is_no_part_of_what_it_learns():
    """Moving a system from CPU to GPU nodes must not retrain it by itself."""
    wildcards = SimpleNamespace(study="demo", system="speech")
    data = yaml.safe_load((ROOT / "studies/demo.yaml").read_text(encoding="utf-8"))
    moved = {**data["systems"], "speech": {**data["systems"]["speech"], "resources": "gpu"}}
    moved["speech"]["model"] = HUB
    assert plan().system_settings(wildcards) == plan(systems=moved).system_settings(wildcards)


def test_a_text_system_waits_for_transcripts_and_a_speech_system_does_not():
    inputs = plan().fold_inputs(SimpleNamespace(study="demo", system="text"))
    assert inputs["transcripts"] == ["results/corpora/demo/transcripts/demo-canary.parquet"]
    inputs = plan().fold_inputs(SimpleNamespace(study="demo", system="speech"))
    assert "transcripts" not in inputs
    assert inputs["samples"] == ["results/corpora/demo/audio.i16"]


def test_every_seed_has_its_own_tables():
    files = plan(seeds=[1, 7]).all_posteriors("demo")
    assert len(files) == len(set(files)) == 2 * 6
    assert sum("/seed-7/" in file for file in files) == 6


@pytest.mark.parametrize("family", ["functionals", "speech_classifier", "text_classifier"])
def test_a_family_is_one_module_with_a_build_function(family):
    source = (ROOT / f"workflow/scripts/serflow/systems/{family}.py").read_text(encoding="utf-8")
    assert "\ndef build(settings: dict[str, Any], context: Context)" in source
