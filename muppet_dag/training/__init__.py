"""The loop, checkpoints, the process group. ``python -m muppet_dag.training JOB.json`` runs it."""
