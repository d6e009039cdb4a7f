"""What a cluster has: its partitions, nodes and accounts, from what scontrol and sacctmgr print."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# What a node without a bound says.
UNLIMITED = {"UNLIMITED", "INFINITE", "NONE", "N/A", "(null)", ""}
# States in which no job starts, now at least.
OUT = ("DOWN", "DRAIN", "FAIL", "MAINT", "NOT_RESPONDING", "POWERING_DOWN", "UNKNOWN")


@dataclass(frozen=True)
class Node:
    """One node, as `scontrol show node` describes it."""

    name: str
    cpus: int
    mem_mb: int
    gpus: dict[str, int]  # model (may be "") -> number
    features: frozenset[str]
    partitions: frozenset[str]
    state: str

    @property
    def out(self) -> bool:
        """Whether no job starts there at present."""
        return any(word in self.state for word in OUT)

    def gpus_of(self, model: str | None) -> int:
        """GPUs of a model; of any where it is None."""
        if model is None:
            return max(self.gpus.values(), default=0)
        return next((n for kind, n in self.gpus.items() if kind.lower() == model.lower()), 0)


@dataclass(frozen=True)
class Partition:
    """One partition, as `scontrol show partition` describes it; None is no bound."""

    name: str
    default: bool
    up: bool
    minutes: int | None
    mem_mb: int | None
    cpus: int | None
    accounts: frozenset[str] | None
    denied: frozenset[str]
    qos: frozenset[str] | None


@dataclass(frozen=True)
class Inventory:
    """A cluster, as one user sees it."""

    partitions: dict[str, Partition]
    nodes: tuple[Node, ...]
    # Account -> qualities of service; None: no accounting, so any will do.
    accounts: dict[str, frozenset[str]] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def default_partition(self) -> str | None:
        """Where jobs go that name none."""
        return next((p.name for p in self.partitions.values() if p.default), None)

    def of(self, partition: str) -> list[Node]:
        """The nodes of a partition."""
        return [node for node in self.nodes if partition in node.partitions]


def parse_nodes(text: str) -> tuple[Node, ...]:
    """Nodes from `scontrol show node --oneliner`."""
    return tuple(
        Node(
            name=row["NodeName"],
            cpus=int(row.get("CPUEfctv") or row.get("CPUTot", 0)),
            mem_mb=int(row.get("RealMemory", 0)) - int(row.get("MemSpecLimit", 0)),
            gpus=parse_gres(row.get("Gres", "")),
            features=frozenset(_names(row.get("ActiveFeatures") or "") or ()),
            partitions=frozenset(_names(row.get("Partitions", "")) or ()),
            state=row.get("State", "UNKNOWN"),
        )
        for row in _rows(text, "NodeName")
    )


def parse_gres(text: str) -> dict[str, int]:
    """GPUs by model of a node's generic resources.

    Examples
    --------
    >>> parse_gres("gpu:a100:4(S:0-1),nvme:1")
    {'a100': 4}
    >>> parse_gres("gpu:2")
    {'': 2}
    """
    found: dict[str, int] = {}
    for model, number in re.findall(r"(?:^|,)gpu(?::([A-Za-z0-9_.-]+?))?:(\d+)(?=[,(]|$)", text):
        found[model] = found.get(model, 0) + int(number)
    return found


def parse_partitions(text: str) -> dict[str, Partition]:
    """Partitions from `scontrol show partition --oneliner`."""
    found = {}
    for row in _rows(text, "PartitionName"):
        found[row["PartitionName"]] = Partition(
            name=row["PartitionName"],
            default=row.get("Default") == "YES",
            up=row.get("State", "UP") == "UP",
            minutes=minutes(row.get("MaxTime", "")),
            mem_mb=_number(row.get("MaxMemPerNode", "")),
            cpus=_number(row.get("MaxCPUsPerNode", "")),
            accounts=_allowed(row.get("AllowAccounts", "ALL")),
            denied=frozenset(_names(row.get("DenyAccounts", "")) or ()),
            qos=_allowed(row.get("AllowQos", "ALL")),
        )
    return found


def parse_accounts(text: str) -> dict[str, frozenset[str]] | None:
    """A user's accounts from `sacctmgr -nP show assoc user=... format=account,qos`."""
    found: dict[str, frozenset[str]] = {}
    for line in text.splitlines():
        account, _, qos = line.partition("|")
        if account.strip():
            known = found.get(account.strip(), frozenset())
            found[account.strip()] = known | frozenset(_names(qos.strip("|")) or ())
    return found or None


def parse_settings(text: str) -> dict[str, str]:
    """Keys and values of `scontrol show config`."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def minutes(text: str) -> int | None:
    """Minutes of a time as Slurm prints it; None where there is no bound.

    Examples
    --------
    >>> minutes("1-12:30:00"), minutes("00:05:00"), minutes("UNLIMITED")
    (2190, 5, None)
    """
    if text in UNLIMITED:
        return None
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:  # D-HH[:MM[:SS]]
        hours, mins, *_ = [*parts, 0, 0]
    elif len(parts) == 3:
        hours, mins, _ = parts
    else:  # MM[:SS]
        hours, mins = 0, parts[0]
    return int(days or 0) * 1440 + hours * 60 + mins


def _rows(text: str, first: str) -> list[dict[str, str]]:
    # Values may hold spaces (OS=Linux 5.14 #1); none that is read here does.
    lines = [line for line in text.splitlines() if line.startswith(f"{first}=")]
    return [dict(re.findall(r"(?:^|\s)([A-Za-z]\w*)=(\S*)", line)) for line in lines]


def _names(text: str) -> list[str] | None:
    return None if text in UNLIMITED else [name for name in text.split(",") if name]


def _allowed(text: str) -> frozenset[str] | None:
    return None if text == "ALL" else frozenset(_names(text) or ())


def _number(text: str) -> int | None:
    return None if text in UNLIMITED else int(text)
