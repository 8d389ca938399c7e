"""The device is as fast as promised."""

import pytest

from harness.pytest_plugin.plugin import RunCheck


@pytest.mark.throughput
def test_throughput(check: RunCheck) -> None:
    """The device is as fast as promised."""
    check("throughput")
