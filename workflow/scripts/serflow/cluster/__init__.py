"""A Slurm cluster around the workflow: its settings, what fits on it, what is left after a crash."""
