"""The run folder: schemas, validated and atomic writes, shards, and what is done. Loads neither torch nor Ray."""
