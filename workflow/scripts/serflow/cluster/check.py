"""`make slurm-check`: what of a run would find no place on this cluster, before it is submitted.

`python -m serflow.cluster.check [STUDY ...]`, in the repository, on a login node.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from serflow.cluster.commands import ask
from serflow.cluster.fit import Request, elsewhere, fault
from serflow.cluster.inventory import (
    Inventory,
    parse_accounts,
    parse_nodes,
    parse_partitions,
    parse_settings,
)
from serflow.cluster.site import load_site
from serflow.config.load import load, read_yaml
from serflow.errors import UserError
from serflow.plan import Plan

ATTEMPTS = 3
# The plugin asks at most every 180 s; a job that squeue forgets before that ended unseen.
SHORTEST_MEMORY_S = 240


def inventory() -> Inventory:
    """The cluster that this runs on, as this user sees it."""
    shown = ("-nP", "show", "assoc", f"user={getpass.getuser()}", "format=account,qos")
    return Inventory(
        partitions=parse_partitions(ask("scontrol", "show", "partition", "--oneliner")),
        nodes=parse_nodes(ask("scontrol", "show", "node", "--oneliner")),
        accounts=parse_accounts(ask("sacctmgr", *shown, needed=False)),
        settings=parse_settings(ask("scontrol", "show", "config")),
    )


def requests(plan: Plan, attempt: int) -> dict[Request, list[str]]:
    """What the jobs of a plan ask for at one attempt, and which they are."""
    found: dict[Request, list[str]] = {}
    for job, need in plan.needs().items():
        asks = {
            name: value(None, attempt=attempt) if name in ("mem_mb", "runtime") else value(None)
            for name, value in plan.asks(lambda wildcards, need=need: need).items()
        }
        request = Request(
            cpus=plan.threads(lambda wildcards, need=need: need)(None),
            mem_mb=asks["mem_mb"],
            minutes=asks["runtime"],
            gpus=plan.gpus(need),
            model=plan.cluster.place(need.name).model if plan.gpus(need) else None,
            partition=asks.get("slurm_partition"),
            account=asks.get("slurm_account"),
            qos=asks.get("qos"),
            constraint=asks.get("constraint"),
        )
        found.setdefault(request, []).append(f"{job} ({need.name})")
    return found


def findings(plan: Plan, cluster: Inventory) -> Iterator[tuple[str, str]]:
    """What stands in the way: ('error' or 'warning', message)."""
    broken: set[str] = set()
    for attempt in range(1, ATTEMPTS + 1):
        for request, jobs in requests(plan, attempt).items():
            found = fault(request, cluster)
            jobs = [job for job in jobs if job not in broken]
            if found is None or not jobs:
                continue
            broken.update(jobs)
            named = f"{jobs[0]}{f' and {len(jobs) - 1} more' if len(jobs) > 1 else ''}"
            others = elsewhere(request, cluster)
            hint = f"; it would fit partition {' or '.join(others)}" if others else ""
            if attempt == 1:
                yield "error", f"{named}: {found}{hint}"
            else:
                yield (
                    "warning",
                    f"{named}: attempt {attempt} would be refused: {found}{hint}. Set max_mem_mb or "
                    "max_runtime of the class in config.yaml",
                )
    yield from _settings(cluster)


def _settings(cluster: Inventory) -> Iterator[tuple[str, str]]:
    memory = cluster.settings.get("MinJobAge", "").split()[:1]
    accounting = cluster.settings.get("AccountingStorageType", "")
    if "slurmdbd" in accounting or not (memory and memory[0].isdigit()):
        return
    if int(memory[0]) < SHORTEST_MEMORY_S:
        yield (
            "warning",
            f"there is no accounting, and the controller forgets jobs {memory[0]} s after their end "
            f"(MinJobAge): one that ends unseen is run again. Ask for {SHORTEST_MEMORY_S} s or more",
        )


def report(plan: Plan, cluster: Inventory) -> int:
    """Print what was found; 1 where a job would find no place."""
    found = list(findings(plan, cluster))
    for kind, message in found:
        print(f"{kind}: {message}")
    errors = sum(kind == "error" for kind, _ in found)
    if not errors:
        jobs = plan.needs()
        print(f"{len(jobs)} kinds of jobs fit this cluster: {_places(plan)}")
    return int(errors > 0)


def _places(plan: Plan) -> str:
    names = dict.fromkeys(need.name for need in plan.needs().values())
    return ", ".join(
        f"{name} in {plan.cluster.place(name).partition or 'default'}" for name in names
    )


def main(root: Path, studies: list[str]) -> int:
    """Check the studies of `config.yaml`, or those that are named."""
    config = read_yaml(root / "config.yaml") or {}
    if studies:
        config["studies"] = studies
    site = load_site(os.environ, root)
    scripts = root / "workflow" / "scripts"
    return report(Plan(*load(config, root / "studies"), scripts, site), inventory())


if __name__ == "__main__":
    try:
        sys.exit(main(Path(), sys.argv[1:]))
    except UserError as error:
        sys.exit(f"slurm-check: {error}")
