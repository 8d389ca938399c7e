"""Every stage from PyTorch to the device computes what the one before it computes."""

import pytest

from harness.pytest_plugin.plugin import RunCheck


@pytest.mark.parity
def test_parity(check: RunCheck) -> None:
    """Every stage from PyTorch to the device computes what the one before it computes."""
    check("parity")
