"""The parts of `python -m training.evaluate`."""
