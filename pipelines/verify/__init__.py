"""`python -m pipelines.verify`: whether a dataset is what its records say."""
