"""Every stage from PyTorch to the device computes the same as the stage before it."""

import pytest

from harness.pytest_plugin.plugin import RunCheck


@pytest.mark.parity
def test_parity(check: RunCheck) -> None:
    """Every stage from PyTorch to the device computes the same as the stage before it."""
    check("parity")
