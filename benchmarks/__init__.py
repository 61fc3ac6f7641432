"""Measurements and the reference implementations they compare with; not part of any wheel."""
