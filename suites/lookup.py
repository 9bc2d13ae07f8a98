"""A suite's name to the suite: registered, or from a user's file."""

from harness.suites.base import Suite
from harness.suites.catalog import SUITES


def suite_of(name: str) -> tuple[str, Suite]:
    """Return the name of a suite in tables, and the suite.

    Raises:
        LookupError: There is no such suite.
    """
    return name, SUITES[name]()
