# Snakemake looks for no reason of their own in jobs after one that is to run, as it reaches them from
# there; but not over `ancient` inputs (9.27, https://github.com/snakemake/snakemake/issues/4166). A
# training that waits for a new audit would not be trained anew, whatever else of its own has changed.
from snakemake.dag import DAG


def look_after_ancient_inputs():
    update_needrun = DAG.update_needrun

    async def update(dag, *args, **kwargs):
        reruns = {
            job: {
                after: files
                for after, files in dag.depending[job].items()
                if not all(file.is_ancient for file in files)
            }
            for job in dag.jobs
        }
        # That is how it looks for the jobs after one.
        dag.bfs = lambda direction, *jobs, **options: DAG.bfs(
            dag, reruns if direction is dag.depending else direction, *jobs, **options
        )
        try:
            await update_needrun(dag, *args, **kwargs)
        finally:
            del dag.bfs

    DAG.update_needrun = update


look_after_ancient_inputs()
