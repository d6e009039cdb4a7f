"""What finds no place on a cluster is said before anything is submitted."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from serflow.cluster.check import ATTEMPTS, findings, report, requests
from serflow.cluster.fit import Request, elsewhere, fault, meets
from serflow.cluster.inventory import (
    Inventory,
    minutes,
    parse_accounts,
    parse_gres,
    parse_nodes,
    parse_partitions,
    parse_settings,
)
from serflow.config.cluster import ClusterConfig
from serflow.config.load import load
from serflow.plan import Plan

ROOT = Path(__file__).parents[2]

# Recorded: Slurm 22.05.8 (Debian), three virtual nodes, the last with two GPUs of a made-up model.
PARTITIONS = """\
PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A DefaultTime=00:10:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=n[1-3] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=12 TotalNodes=3 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerCPU=100 MaxMemPerNode=UNLIMITED TRES=cpu=12,mem=12000M,node=3,billing=12
PartitionName=short AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A DefaultTime=00:01:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=00:05:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=n[1-3] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=12 TotalNodes=3 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerCPU=100 MaxMemPerNode=UNLIMITED TRES=cpu=12,mem=12000M,node=3,billing=12
PartitionName=gpu AllowGroups=ALL AllowAccounts=speech AllowQos=normal AllocNodes=ALL Default=NO QoS=N/A DefaultTime=00:10:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=3 Nodes=n3 PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=4 TotalNodes=1 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerCPU=100 MaxMemPerNode=3000 TRES=cpu=4,mem=4000M,node=1,billing=4
"""
NODES = """\
NodeName=n1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUEfctv=4 CPUTot=4 CPULoad=4.97 AvailableFeatures=(null) ActiveFeatures=(null) Gres=(null) NodeAddr=127.0.0.1 NodeHostName=vm Port=27821 Version=22.05.8 OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=4000 AllocMem=0 FreeMem=19542 Sockets=4 Boards=1 State=IDLE ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=main,short  BootTime=2026-11-25T20:06:22 SlurmdStartTime=2026-11-26T01:53:41 LastBusyTime=2026-11-26T02:20:09 CfgTRES=cpu=4,mem=4000M,billing=4 AllocTRES= CapWatts=n/a CurrentWatts=0 AveWatts=0 ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s

NodeName=n2 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUEfctv=4 CPUTot=4 CPULoad=4.97 AvailableFeatures=(null) ActiveFeatures=(null) Gres=(null) NodeAddr=127.0.0.1 NodeHostName=vm Port=27822 Version=22.05.8 OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=4000 AllocMem=0 FreeMem=19542 Sockets=4 Boards=1 State=IDLE ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=main,short  BootTime=2026-11-25T20:06:22 SlurmdStartTime=2026-11-26T01:53:41 LastBusyTime=2026-11-26T01:53:41 CfgTRES=cpu=4,mem=4000M,billing=4 AllocTRES= CapWatts=n/a CurrentWatts=0 AveWatts=0 ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s

NodeName=n3 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUEfctv=4 CPUTot=4 CPULoad=4.97 AvailableFeatures=nvlink,new ActiveFeatures=nvlink,new Gres=gpu:fake:2 NodeAddr=127.0.0.1 NodeHostName=vm Port=27823 Version=22.05.8 OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=4000 AllocMem=0 FreeMem=19542 Sockets=4 Boards=1 State=IDLE ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=main,short,gpu  BootTime=2026-11-25T20:06:22 SlurmdStartTime=2026-11-26T01:53:41 LastBusyTime=2026-11-26T02:19:26 CfgTRES=cpu=4,mem=4000M,billing=4 AllocTRES= CapWatts=n/a CurrentWatts=0 AveWatts=0 ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s
"""
ACCOUNTS = "speech|normal,long\nteaching|normal\n"
SETTINGS = """\
Configuration data as of 2026-11-26T02:22:03
AccountingStorageType   = accounting_storage/none
MaxArraySize            = 1001
MinJobAge               = 60 sec
"""  # fmt: skip


def cluster(partitions=PARTITIONS, nodes=NODES, accounts=ACCOUNTS, settings=""):
    return Inventory(
        parse_partitions(partitions),
        parse_nodes(nodes),
        parse_accounts(accounts),
        parse_settings(settings),
    )


def test_a_small_job_fits():
    assert fault(Request(cpus=4, mem_mb=4000, minutes=1440), cluster()) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mem_mb": 4001}, "4001 MB; partition 'main' has none: its nodes have 4000 MB"),
        ({"cpus": 5}, "5 cores; partition 'main' has none: its nodes have 4 cores"),
        ({"minutes": 1441}, "1441 minutes; partition 'main' allows 1440"),
        ({"gpus": 3}, "3 GPUs on a node.*2 x fake"),
        ({"gpus": 1, "model": "a100"}, "1 GPUs of model a100 on a node.*2 x fake"),
        ({"partition": "gpus"}, "no partition 'gpus'; there are main, short, gpu"),
        ({"partition": "gpu", "account": "teaching"}, "does not take account 'teaching'"),
        ({"partition": "gpu", "account": "speech", "qos": "long"}, "does not take QOS 'long'"),
        ({"partition": "gpu", "account": "speech", "mem_mb": 3500}, "3500 MB.*allows 3000"),
        ({"partition": "gpu", "account": "speech", "cpus": 4}, "4 cores.*allows 3"),
        ({"account": "speach"}, "account 'speach' is not yours; you have speech, teaching"),
        ({"account": "teaching", "qos": "long"}, "QOS 'long' is not allowed; you have normal"),
        ({"constraint": "nvlink&old"}, "constraint 'nvlink&old'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_says_what_was_asked_and_what_there_is(changes, message):
    """Slurm itself refuses late, or lets the job wait for ever without a word."""
    found = fault(Request(**({"cpus": 1, "mem_mb": 100, "minutes": 5} | changes)), cluster())
    assert found is not None
    assert re.search(message, found), found


def test_two_requests_that_each_fit_need_one_node_that_fits_both():
    """The GPUs are in n3; its memory is that of no other."""
    smaller = NODES.replace("Gres=gpu:fake:2", "Gres=gpu:fake:2 MemSpecLimit=2000")
    asked = Request(cpus=1, mem_mb=3000, minutes=5, gpus=1)
    assert fault(asked, cluster()) is None
    assert "2000 MB" in fault(asked, cluster(nodes=smaller))
    assert fault(dataclasses.replace(asked, gpus=0), cluster(nodes=smaller)) is None


def test_drained_nodes_are_no_place():
    drained = NODES.replace("State=IDLE", "State=IDLE+DRAIN")
    assert "IDLE+DRAIN" in fault(Request(1, 100, 5), cluster(nodes=drained))
    assert "not up" in fault(
        Request(1, 100, 5), cluster(PARTITIONS.replace("State=UP", "State=DOWN"))
    )


def test_of_several_partitions_one_is_enough():
    asked = Request(1, 100, 60, partition="short,main", account="teaching")
    assert fault(asked, cluster()) is None
    assert "60 minutes" in fault(dataclasses.replace(asked, partition="short"), cluster())
    assert elsewhere(dataclasses.replace(asked, partition="short"), cluster()) == ["main"]


def test_without_accounting_any_account_will_do():
    asked = Request(1, 100, 5, account="any", qos="any")
    assert fault(asked, cluster(accounts="")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:nvidia_a100_80gb_pcie:2(S:0),nvme:1", {"nvidia_a100_80gb_pcie": 2}),
        ("gpu:2", {"": 2}),
        ("gpu:h100:4,gpu:1g.10gb:7", {"h100": 4, "1g.10gb": 7}),
        ("(null)", {}),
        ("mps:400", {}),
    ],
)
def test_gpus_are_read_in_every_spelling(text, expected):
    assert parse_gres(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7-00:00:00", 10080), ("02:00:00", 120), ("30:00", 30), ("1-12", 2160), ("UNLIMITED", None)],
)
def test_times_are_read_in_every_spelling(text, expected):
    assert minutes(text) == expected


def test_constraints():
    assert meets("a|b", frozenset("b")) and meets("a&b", frozenset("ab"))
    assert not meets("a&b", frozenset("b"))
    assert meets("[rack1*2]", frozenset()), "what is not judged is not refused"


def plan(changes=None, **site):
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | (changes or {})
    return Plan(
        *load(config, ROOT / "studies"), ROOT / "workflow/scripts", ClusterConfig(**site)
    )  # fmt: skip


SMALL = {
    "resources": {
        "cpu-small": {"mem_mb": 400, "runtime": 10},
        "cpu-audio": {"mem_mb": 1100, "cpus": 4, "runtime": 10},
    }
}


def test_a_run_that_does_not_fit_is_named_by_rule_system_and_class(capsys):
    assert report(plan(), cluster()) == 1
    out = capsys.readouterr().out
    assert "error: pack_audio (cpu-audio) and 2 more: 16 cores; partition 'main' has none" in out
    assert "(cpu-small)" in out


def test_a_run_that_fits_says_where(capsys):
    assert report(plan(SMALL, partition="main"), cluster()) == 0
    assert "cpu-audio in main" in capsys.readouterr().out


def test_a_retry_that_will_be_refused_is_a_warning_before_it_is_a_lost_night():
    grown = {"resources": SMALL["resources"] | {"cpu-small": {"mem_mb": 1500, "runtime": 10}}}
    (kind, message), *_ = findings(plan(grown), cluster())
    assert kind == "warning" and "attempt 3 would be refused: 4900 MB" in message
    assert "max_mem_mb" in message
    grown["resources"]["cpu-small"]["max_mem_mb"] = 3000
    grown["resources"]["cpu-audio"] = SMALL["resources"]["cpu-audio"] | {"max_mem_mb": 3000}
    assert list(findings(plan(grown), cluster())) == []


def test_a_controller_that_forgets_jobs_soon_is_a_warning_where_there_is_no_accounting():
    (kind, message), *_ = findings(plan(SMALL), cluster(settings=SETTINGS))
    assert kind == "warning" and "60 s after their end" in message
    with_database = SETTINGS.replace("storage/none", "storage/slurmdbd")
    assert list(findings(plan(SMALL), cluster(settings=with_database))) == []


def test_the_check_asks_for_what_the_rules_ask_for():
    """A check of other numbers than those that are submitted would be worth nothing."""
    mine = plan({"studies": ["odyssey2024"], "paths": {"msp_podcast": str(ROOT / "docs")}},
                gpu={"partition": "gpu", "model": "fake"})  # fmt: skip
    largest = max(requests(mine, ATTEMPTS), key=lambda request: request.mem_mb)
    assert (largest.model, largest.partition, largest.gpus) == ("fake", "gpu", 1)
    assert largest.mem_mb == 3 * 48_000 + 400
