"""The streaming trainer: reads shards by their manifest, knows nothing of the pipeline."""
