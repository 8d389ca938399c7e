"""The device loads its model and runs it for the first time within the limits."""

import pytest

from harness.pytest_plugin.plugin import RunCheck


@pytest.mark.startup
def test_startup(check: RunCheck) -> None:
    """The device loads its model and runs it for the first time within the limits."""
    check("startup")
