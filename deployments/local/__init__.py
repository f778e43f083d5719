"""One machine: the DAG, its UI and the GPUs side by side."""
