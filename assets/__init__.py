"""The DAG: asset factories and checks. Each asset reads, calls one library function and reports."""
