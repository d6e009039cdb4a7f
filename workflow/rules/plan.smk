# The typed settings, and what the rules ask of them. Nothing here reads data or computes.
import gc
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from serflow.config.cluster import ClusterConfig
from serflow.config.load import load
from serflow.errors import UserError
from serflow.digests import canonical
from serflow.plan import Plan

try:
    # As the profile has read it; without one there is no cluster.
    cluster = ClusterConfig.model_validate_json(os.environ.get("SERFLOW_CLUSTER", "{}"))
    PLAN = Plan(
        *load(config, ROOT / "studies"),
        scripts=SCRIPTS,
        cluster=cluster,
        kept_sources=Path(".snakemake/serflow/sources.json"),
    )
except UserError as error:
    raise WorkflowError(str(error))

# What is loaded by now stays: no collection of garbage need look at it again.
gc.freeze()

STUDIES = PLAN.site.studies
# A contrast is a study too: emodb.random_5_fold.
STUDY = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)?"


wildcard_constraints:
    study=STUDY,
    corpus="[A-Za-z0-9][A-Za-z0-9_-]*",
    system="[A-Za-z0-9][A-Za-z0-9_-]*",
    fusion="[A-Za-z0-9][A-Za-z0-9_-]*",
    asr="[A-Za-z0-9][A-Za-z0-9_-]*",
    seed=r"\d+",
    fold=r"\d+|final",
    shard=r"\d+",
    shards=r"\d+",
