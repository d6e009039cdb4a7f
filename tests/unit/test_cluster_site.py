"""What a cluster wants to be told: from a file or from environment variables, and never half."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from serflow.cluster.profile import CONFIGURATION, SETTINGS, WRAPPERS, enter
from serflow.cluster.site import load_site
from serflow.config.cluster import ClusterConfig
from serflow.config.load import load
from serflow.config.resources import ResourceClass
from serflow.errors import UserError
from serflow.job import RUN
from serflow.plan import Plan

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "slurm/examples"


def example(name):
    return load_site({"SER_SLURM_SITE": str(EXAMPLES / f"{name}.yaml")})


def test_a_gres_site_gets_gres_and_never_gpus_beside_it():
    """Both at once is refused, or gives two different requests."""
    asked = example("a100-gres").asks("gpu-large", 1)
    assert asked["gres"] == "gpu:a100:1"
    assert asked["slurm_partition"] == "gpu" and asked["constraint"] == "a100_80g"
    assert not {"gpu", "gpu_model"} & set(asked)


def test_a_gpus_site_gets_a_number_and_a_model():
    site = example("h100-gpus")
    assert site.asks("multi-gpu", 4) == {
        "slurm_account": "speech", "slurm_partition": "h100-nvlink", "qos": "long",
        "gpu": 4, "gpu_model": "h100",
    }  # fmt: skip
    assert site.asks("gpu-small", 1)["qos"] == "normal", "a class goes before all GPU jobs"


def test_cpu_jobs_get_nothing_that_is_for_gpus():
    asked = example("a100-gres").asks("cpu-audio", 0)
    assert asked == {"slurm_account": "speech", "slurm_partition": "standard", "gpu": 0}


def test_environment_variables_go_before_the_file_and_empty_ones_say_nothing():
    file = {"SER_SLURM_SITE": str(EXAMPLES / "a100-gres.yaml")}
    site = load_site(file | {"SER_SLURM_GPU_MODEL": "h100", "SER_SLURM_ACCOUNT": ""})
    assert site.asks("gpu-small", 1)["gres"] == "gpu:h100:1"
    assert site.account == "speech"


def test_without_a_file_the_variables_are_enough(tmp_path):
    site = load_site({"SER_SLURM_ACCOUNT": "speech", "SER_SLURM_PARTITION": "long"}, tmp_path)
    assert site.asks("gpu-small", 1) == {
        "slurm_account": "speech", "slurm_partition": "long", "gpu": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SER_SLURM_SITE": "nowhere.yaml"}, "nowhere.yaml.*slurm/examples"),
        ({"SER_SLURM_GPU_REQUEST": "gress"}, "SER_SLURM_GPU_REQUEST.*\n.*gpu.request"),
        ({"SER_SLURM_ACCOUNT": "a; rm -rf"}, "account"),
    ],
)
def test_a_wrong_value_names_its_variable(environment, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load_site(environment, tmp_path)


def test_a_wrong_key_of_the_file_names_the_nearest(tmp_path):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/site.yaml").write_text("acount: speech\n")
    with pytest.raises(UserError, match=r"site.yaml is not valid(.|\n)*did you mean 'account'"):
        load_site({}, tmp_path)


def test_the_profile_hands_its_settings_to_the_plan_and_puts_its_commands_first(tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\n")
    sbatch.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}/usr/bin",
        "SLURM_CONF": "/opt/slurm.conf",
        "SER_SLURM_SITE": str(EXAMPLES / "h100-gpus.yaml"),
    }
    site = enter(environment)
    assert environment["PATH"].split(os.pathsep) == [str(WRAPPERS), str(tmp_path), "/usr/bin"]
    assert ClusterConfig.model_validate_json(environment[SETTINGS]) == site
    assert environment[CONFIGURATION] == "/opt/slurm.conf"
    assert environment["HF_HOME"] == "/scratch/speech/huggingface"
    first = environment[RUN]
    enter(environment)
    assert environment["PATH"].count(str(WRAPPERS)) == 1
    assert environment[RUN] != first, "a mended mistake is tried again in the next run"


def test_a_machine_without_slurm_keeps_its_path(tmp_path):
    environment = {"PATH": str(tmp_path)}
    enter(environment)
    assert environment["PATH"] == str(tmp_path)


def test_arrays_of_unlike_jobs_are_refused():
    """The plugin gives every job of an array what the first one asks for (its pull request 174)."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"studies": ["odyssey2024"]}
    config["paths"] = {"msp_podcast": str(ROOT / "docs")}
    loaded = load(config, ROOT / "studies")
    arrays = ClusterConfig(arrays=["train_fold", "transcribe_shard"])
    Plan(*loaded, ROOT / "workflow/scripts", arrays)  # classes have arrays of their own
    study = loaded[1]["odyssey2024"]
    for name, gpus in zip(study.systems, (2, 4), strict=False):
        more = {"resources": "multi-gpu", "gpus": gpus}
        study.systems[name] = study.trained[name] = study.systems[name].model_copy(update=more)
    with pytest.raises(UserError, match=r"multi-gpu with 2 GPUs, .* multi-gpu with 4 GPUs"):
        Plan(*loaded, ROOT / "workflow/scripts", arrays)


def test_every_class_has_an_array_and_every_training_one_rule():
    """A training that two rules could make stops the run, and one that none can make as well."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"studies": ["odyssey2024"]}
    config["paths"] = {"msp_podcast": str(ROOT / "docs")}
    loaded = load(config, ROOT / "studies")
    plan = Plan(*loaded, ROOT / "workflow/scripts", ClusterConfig(arrays=["train_fold"]))
    for name, system in loaded[1]["odyssey2024"].systems.items():
        path = f"odyssey2024/seed-1/systems/{name}/fold-0"
        taking = [x for x in get_args(ResourceClass) if re.match(plan.of_class(x), path)]
        assert taking == [system.resources]
    assert Plan(*loaded, ROOT / "workflow/scripts").of_class("gpu-small") == ""
    rules = (ROOT / "workflow/rules/train.smk").read_text(encoding="utf-8")
    for rule in ClusterConfig(arrays=["train_fold"]).array_rules():
        assert re.search(rf"rule (\w+ as )?{rule}\b", rules), rule


def test_the_example_files_are_valid_and_the_schema_is_theirs():
    schema = json.loads((ROOT / "workflow/schemas/site.schema.json").read_text())
    for file in EXAMPLES.glob("*.yaml"):
        assert set(yaml.safe_load(file.read_text())) <= set(schema["properties"])
