"""The Beam pipeline: thin transforms round pure functions."""
