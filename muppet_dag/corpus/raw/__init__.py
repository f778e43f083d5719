"""Raw files, read as they were written: Parquet, CSV, TSV and JSON lines."""
