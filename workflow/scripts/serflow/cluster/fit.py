"""Whether a cluster has a place for a job, and if not, what stands in the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from serflow.cluster.inventory import Inventory, Node, Partition


@dataclass(frozen=True)
class Request:
    """What one job asks sbatch for."""

    cpus: int
    mem_mb: int
    minutes: int
    gpus: int = 0
    model: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None


def fault(request: Request, cluster: Inventory) -> str | None:
    """Why a job would be refused, or wait for ever; None where it fits.

    Parameters
    ----------
    request : Request
    cluster : Inventory
    """
    name = request.partition or cluster.default_partition()
    if name is None:
        return f"no partition is named, and none is the default; {_known(cluster)}"
    # A list of partitions: Slurm takes the first that will do.
    faults = []
    for one in name.split(","):
        if one not in cluster.partitions:
            return f"there is no partition {one!r}; {_known(cluster)}"
        found = _account(request, cluster) or _partition(request, cluster.partitions[one])
        found = found or _nodes(request, one, cluster.of(one))
        if found is None:
            return None
        faults.append(found)
    return "; ".join(dict.fromkeys(faults))


def elsewhere(request: Request, cluster: Inventory) -> list[str]:
    """The partitions that would take a job as it is, but for the name of its own."""
    return [
        name
        for name in cluster.partitions
        if fault(Request(**(request.__dict__ | {"partition": name})), cluster) is None
    ]


def _known(cluster: Inventory) -> str:
    return f"there are {', '.join(cluster.partitions) or 'none'}"


def _account(request: Request, cluster: Inventory) -> str | None:
    known = cluster.accounts
    if known is None:
        return None
    if request.account and request.account not in known:
        return f"account {request.account!r} is not yours; you have {', '.join(known)}"
    mine = [known[request.account]] if request.account else list(known.values())
    if request.qos and not any(request.qos in qos for qos in mine):
        allowed = sorted(set().union(*mine))
        return f"QOS {request.qos!r} is not allowed; you have {', '.join(allowed) or 'none'}"
    return None


def _partition(request: Request, partition: Partition) -> str | None:
    where = f"partition {partition.name!r}"
    if not partition.up:
        return f"{where} is not up"
    bound = partition.minutes
    if bound is not None and request.minutes > bound:
        return f"{request.minutes} minutes; {where} allows {bound}"
    for what, asked, most in (
        ("MB", request.mem_mb, partition.mem_mb),
        ("cores", request.cpus, partition.cpus),
    ):
        if most is not None and asked > most:
            return f"{asked} {what}; {where} allows {most} on a node"
    account, qos = request.account, request.qos
    refused = account in partition.denied or (
        account and partition.accounts is not None and account not in partition.accounts
    )
    if refused:
        allowed = ", ".join(sorted(partition.accounts or ())) or "all but yours"
        return f"{where} does not take account {account!r}; it takes {allowed}"
    if qos and partition.qos is not None and qos not in partition.qos:
        return f"{where} does not take QOS {qos!r}; it takes {', '.join(sorted(partition.qos))}"
    return None


def _nodes(request: Request, partition: str, nodes: list[Node]) -> str | None:
    where = f"partition {partition!r}"
    left = nodes
    steps: list[tuple[str, Callable[[Node], bool], Callable[[Node], str]]] = [
        (
            f"constraint {request.constraint!r}",
            lambda node: meets(request.constraint, node.features),
            lambda node: ",".join(sorted(node.features)) or "no features",
        ),
        (
            f"{request.gpus} GPUs{f' of model {request.model}' if request.model else ''} on a node",
            lambda node: node.gpus_of(request.model) >= request.gpus,
            lambda node: ", ".join(f"{n} x {m or 'gpu'}" for m, n in node.gpus.items()) or "none",
        ),
        (
            f"{request.cpus} cores",
            lambda node: node.cpus >= request.cpus,
            lambda node: f"{node.cpus} cores",
        ),
        (
            f"{request.mem_mb} MB",
            lambda node: node.mem_mb >= request.mem_mb,
            lambda node: f"{node.mem_mb} MB",
        ),
        ("a node that takes jobs", lambda node: not node.out, lambda node: node.state),
    ]
    for what, fits, has in steps:
        kept = [node for node in left if fits(node)]
        if not kept:
            there = ", ".join(list(dict.fromkeys(has(node) for node in left))[:5])
            among = "its nodes have" if len(left) == len(nodes) else "the nodes left have"
            return f"{what}; {where} has none: {among} {there or 'nothing, there are none'}"
        left = kept
    return None


def meets(constraint: str | None, features: frozenset[str]) -> bool:
    """Whether features meet a constraint of `&`, `|` and `,`; counts and brackets are not judged."""
    if not constraint or re.search(r"[\[\]*()]", constraint):
        return True
    return any(
        all(part in features for part in re.split(r"[&,]", one)) for one in constraint.split("|")
    )
