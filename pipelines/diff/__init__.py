"""Two datasets compared by their tables: `python -m pipelines.diff A B`."""
