"""A raw dataset becomes shards, shards become tokens."""
