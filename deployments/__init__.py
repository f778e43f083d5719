"""Where the DAG runs: one package per place."""
