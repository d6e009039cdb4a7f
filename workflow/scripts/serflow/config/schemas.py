"""Generate the JSON schemas of `config.yaml` and the studies from their types.

Editors read them; `python -m serflow.config.schemas FOLDER` writes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from serflow.config.cluster import ClusterConfig
from serflow.config.site import SiteConfig
from serflow.config.study import StudyConfig
from serflow.files import write_text

KINDS = {"config": SiteConfig, "study": StudyConfig, "site": ClusterConfig}


def schemas() -> dict[str, str]:
    """File name to JSON text."""
    return {
        f"{name}.schema.json": json.dumps(kind.model_json_schema(), indent=2, sort_keys=True) + "\n"
        for name, kind in KINDS.items()
    }


if __name__ == "__main__":
    for file, text in schemas().items():
        write_text(Path(sys.argv[1]) / file, text)
