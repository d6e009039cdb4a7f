"""What `slurm/profile.yaml` does before Snakemake starts.

Imported by the profile, so nothing here imports pandas or torch.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import MutableMapping
from pathlib import Path

from serflow.cluster.site import load_site
from serflow.config.cluster import ClusterConfig
from serflow.job import RUN

WRAPPERS = Path(__file__).resolve().parents[4] / "slurm" / "bin"
# The settings of the site as JSON, for `serflow.plan`, in Snakemake and in its jobs.
SETTINGS = "SERFLOW_CLUSTER"
# The cluster's configuration, where it is not in /etc: Snakemake hides SLURM_CONF from its jobs.
CONFIGURATION = "SERFLOW_SLURM_CONF"


def enter(environment: MutableMapping[str, str] = os.environ) -> ClusterConfig:
    """Prepare the environment that Snakemake and, through `sbatch --export=ALL`, its jobs inherit.

    Parameters
    ----------
    environment : mutable mapping

    Returns
    -------
    ClusterConfig
        What the profile itself reads.
    """
    site = load_site(environment)
    environment[SETTINGS] = site.model_dump_json(exclude_unset=True)
    environment[RUN] = uuid.uuid4().hex
    environment.update(site.environment)
    if environment.get("SLURM_CONF"):
        environment[CONFIGURATION] = environment["SLURM_CONF"]
    folders = environment.get("PATH", "").split(os.pathsep)
    others = [x for x in folders if x and not (Path(x) / "slurm-command").exists()]
    if shutil.which("sbatch", path=os.pathsep.join(others)):
        environment["PATH"] = os.pathsep.join([str(WRAPPERS), *others])
    return site
