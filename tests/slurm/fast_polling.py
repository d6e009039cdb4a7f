"""Snakemake that asks Slurm every two seconds, for these tests alone.

The executor waits 10 s longer after each status query that finds nothing finished, up to 180 s,
and has no setting for it. Status queries, submission and all else are as users have them.
"""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

SECONDS = 2


async def sleep(self):
    await asyncio.sleep(min(self.next_seconds_between_status_checks, SECONDS))


RemoteExecutor.sleep = sleep
sys.argv[0] = "snakemake"
sys.exit(main())
