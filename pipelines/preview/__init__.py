"""What a recipe does to one image or clip, stage by stage: `python -m pipelines.preview`."""
