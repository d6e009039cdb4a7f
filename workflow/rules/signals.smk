# Slurm signals only the first process of a step, and that is Snakemake: it passes on what the scripts
# are to know. Snakemake itself would die of SIGUSR1, and at SIGTERM wait for a script that knows nothing.
import os
import signal
import subprocess

from snakemake.scheduling.job_scheduler import JobScheduler

from serflow.preemption import tell_scripts


def pass_on_signals():
    wait_for_jobs = JobScheduler.exit_gracefully

    def tell_and_wait(scheduler, *args):
        tell_scripts(signal.SIGTERM, ".snakemake/scripts")
        wait_for_jobs(scheduler, *args)

    JobScheduler.exit_gracefully = tell_and_wait
    signal.signal(signal.SIGUSR1, lambda number, _: tell_scripts(number, ".snakemake/scripts"))


if "SLURM_JOB_ID" in os.environ and not workflow.is_main_process:
    pass_on_signals()


# In the middle of a status query the executor has set its jobs aside, and at an interrupt it would cancel
# none of them (plugin 2.8.0). Slurm knows them all by the name of the run.
def cancel_the_whole_run():
    from snakemake_executor_plugin_slurm import Executor

    cancel_those_known = Executor.cancel_jobs

    def cancel_jobs(executor, active_jobs):
        subprocess.run(["scancel", f"--name={executor.run_uuid}"], check=False, timeout=60)
        cancel_those_known(executor, active_jobs)

    Executor.cancel_jobs = cancel_jobs


if workflow.is_main_process:
    cancel_the_whole_run()
