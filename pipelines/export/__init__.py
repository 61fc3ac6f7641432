"""A dataset as folders of PNG frames, for training code that reads those.

`pipelines.export.tree` says what lies where and which loader reads it, `metadata` what the
official CAVSR loaders make of the motion vectors.
"""
