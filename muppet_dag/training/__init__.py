"""The loop, checkpoints, the process group. ``python -m muppet_dag.training JOB.json`` runs it."""

from muppet_dag.training import parent as parent
