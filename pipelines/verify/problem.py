"""What every check yields."""

from typing import NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong."""

    check: str
    """short code to count by, such as frame_type"""
    member: str
    """the member of the sample, or what part of the tar it is; empty for rows of a table"""
    detail: str
    """what was found, and what was expected"""
    key: str = ""
    """the sample, where the check is of more than one; empty where it is all of them"""
    table: str = ""
    """samples, streams or frames, where it is rows of one"""
