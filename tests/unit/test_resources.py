"""What jobs ask for: classes are set once, grow with the attempts, and leave Snakemake its share."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from serflow.config.load import load
from serflow.config.resources import CLASSES
from serflow.config.study import StudyConfig
from serflow.errors import UserError
from serflow.plan import Plan
from serflow.plan.resources import SNAKEMAKE_MB, Need

ROOT = Path(__file__).parents[2]
HUB = "facebook/w2v-bert-2.0"
SPEECH = SimpleNamespace(study="demo", system="speech", seed="1", fold="0")


def plan(system=None, **site):
    site, _ = load({"studies": ["demo"], **site}, ROOT / "studies")
    data = yaml.safe_load((ROOT / "studies/demo.yaml").read_text(encoding="utf-8"))
    data["systems"]["speech"] |= {"model": HUB, **(system or {})}
    return Plan(site, {"demo": StudyConfig.model_validate(data)}, ROOT / "workflow/scripts")


def asked(plan, need, wildcards=SPEECH, attempt=1):
    asks = plan.asks(need)
    with_attempt = {name: asks[name](wildcards, attempt) for name in ("mem_mb", "runtime")}
    return with_attempt | {name: asks[name](wildcards) for name in asks if name not in with_attempt}


def test_every_attempt_asks_for_more_memory_and_time_and_leaves_snakemake_its_share():
    """Two more Snakemake processes run beside each job: without room for them it is killed."""
    mine = plan({"resources": "gpu-small"})
    first, second = (asked(mine, mine.training_need, attempt=n) for n in (1, 2))
    assert first["mem_mb"] == CLASSES["gpu-small"].mem_mb + SNAKEMAKE_MB
    assert second["mem_mb"] == 2 * CLASSES["gpu-small"].mem_mb + SNAKEMAKE_MB
    assert second["runtime"] == 2 * first["runtime"]
    assert SNAKEMAKE_MB > 205, "measured"


def test_no_attempt_asks_for_more_than_the_machine_has():
    """sbatch refuses a time limit above the partition's, and the retry is lost."""
    changes = {"mem_mb": 500, "max_mem_mb": 900, "runtime": 60, "max_runtime": 100}
    mine = plan({"resources": "cpu-small"}, resources={"cpu-small": changes})
    wanted = [asked(mine, mine.training_need, attempt=n) for n in (1, 2, 3)]
    assert [x["mem_mb"] - SNAKEMAKE_MB for x in wanted] == [500, 900, 900]
    assert [x["runtime"] for x in wanted] == [60, 100, 100]


def test_several_gpus_are_of_one_node_with_cores_and_memory_for_each():
    """`--gpus=3` is happily spread over two nodes, where one process group cannot use them."""
    mine = plan({"resources": "multi-gpu", "gpus": 4})
    wanted = asked(mine, mine.training_need)
    assert (wanted["gpu"], wanted["nodes"]) == (4, 1)
    assert wanted["mem_mb"] == 4 * CLASSES["multi-gpu"].mem_mb + SNAKEMAKE_MB
    assert mine.threads(mine.training_need)(SPEECH) == 4 * CLASSES["multi-gpu"].cpus
    assert asked(mine, mine.scoring_need)["gpu"] == 1, "embedding runs as one process"


def test_a_cpu_system_asks_for_no_gpu_and_no_number_of_nodes():
    mine = plan({"resources": "cpu-small"})
    wanted = asked(mine, mine.training_need)
    assert (wanted["gpu"], wanted["nodes"]) == (0, None)
    assert mine.threads(mine.training_need)(SPEECH) == 1


def test_a_machine_changes_single_values_of_a_class():
    mine = plan({"resources": "gpu-large"}, resources={"gpu-large": {"cpus": 12}})
    assert mine.threads(mine.training_need)(SPEECH) == 12
    assert mine.site.resource_class("gpu-large").runtime == CLASSES["gpu-large"].runtime


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"gpu-smal": {}}, "gpu-smal"),
        ({"gpu-small": {"memory": 1}}, "unknown key 'memory'"),
        ({"gpu-small": {"max_runtime": 5}}, "max_runtime is 5, below the 480"),
    ],
)
def test_a_wrong_class_names_the_key_before_any_job(resources, message):
    with pytest.raises(UserError, match=message):
        plan(resources=resources)


def test_gpus_and_class_of_a_system_agree():
    for wrong in ({"resources": "gpu-large", "gpus": 2}, {"resources": "multi-gpu"}):
        with pytest.raises(ValueError, match="expected multi-gpu for two GPUs or more"):
            plan(wrong)


def test_an_encoder_heard_once_goes_where_a_system_on_top_has_a_gpu():
    mine = plan()
    named = [SimpleNamespace(resources=x) for x in ("cpu-small", "gpu-large", "gpu-small")]
    mine.on_top_of = lambda encoder: named
    assert mine.encoder_need(SimpleNamespace(encoder="any")) == Need("gpu-large")
    del named[1:]
    assert mine.encoder_need(SimpleNamespace(encoder="any")) == Need("cpu-small")


def test_the_readme_of_the_profile_tells_what_the_classes_ask_for():
    page = (ROOT / "slurm/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z]+-[a-z]+)` \| (\d+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    table = {name: tuple(map(int, values)) for name, *values in rows}
    assert table == {name: (x.cpus, x.mem_mb, x.runtime) for name, x in CLASSES.items()}
