"""The device is as fast as promised."""

import pytest

from harness.plugin import RunCheck


@pytest.mark.throughput
def test_throughput(check: RunCheck) -> None:
    """The device is as fast as promised."""
    check("throughput")
