"""Side by side with what one would use instead, in one run: ``python -m benchmarks.NAME``."""
