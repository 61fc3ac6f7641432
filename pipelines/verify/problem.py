"""What the checks of one sample yield."""

from typing import NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong with a sample."""

    check: str
    """short code to count by, such as frame_type"""
    member: str
    """the member of the sample"""
    detail: str
    """what was found, and what was expected"""
