"""The settings of this cluster: a file, and environment variables that go before it.

Imported by the profile, so nothing here imports pandas or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serflow.config.base import validated
from serflow.config.cluster import ClusterConfig
from serflow.config.load import read_yaml
from serflow.errors import UserError

SITE_FILE = Path("slurm/site.yaml")
# Environment variable -> key of the file.
VARIABLES = {
    "SER_SLURM_ACCOUNT": "account",
    "SER_SLURM_PARTITION": "partition",
    "SER_SLURM_QOS": "qos",
    "SER_SLURM_CONSTRAINT": "constraint",
    "SER_SLURM_GPU_PARTITION": "gpu.partition",
    "SER_SLURM_GPU_QOS": "gpu.qos",
    "SER_SLURM_GPU_CONSTRAINT": "gpu.constraint",
    "SER_SLURM_GPU_MODEL": "gpu.model",
    "SER_SLURM_GPU_REQUEST": "gpu.request",
}


def load_site(environment: Mapping[str, str], folder: Path = Path()) -> ClusterConfig:
    """The settings of `slurm/site.yaml`, or of the file that SER_SLURM_SITE names.

    Parameters
    ----------
    environment : mapping
        Environment variables: `VARIABLES` go before what the file says; an empty one says nothing.
    folder : Path
        What relative paths start from: the repository.

    Raises
    ------
    UserError
        For a file that is not there or not valid, and for values that are not.
    """
    named = environment.get("SER_SLURM_SITE")
    file = folder / (Path(named).expanduser() if named else SITE_FILE)
    data: dict[str, Any] = {}
    if file.is_file():
        data = read_yaml(file) or {}
    elif named:
        raise UserError(
            f"SER_SLURM_SITE is {named!r}, but there is no such file; slurm/examples has two to copy"
        )
    given = {name: environment[name] for name in VARIABLES if environment.get(name)}
    if isinstance(data, dict):
        for name, value in given.items():
            _put(data, VARIABLES[name], value)
    where = " and ".join([str(file), *given] if file.is_file() else given) or str(file)
    return validated(ClusterConfig, data, where)


def _put(data: dict[str, Any], path: str, value: str) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
    data[last] = value
