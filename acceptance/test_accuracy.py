"""The device is right on as many clips as promised, and on those that PyTorch is right on."""

import pytest

from harness.pytest_plugin.plugin import RunCheck


@pytest.mark.accuracy
def test_accuracy(check: RunCheck) -> None:
    """The device is right on as many clips as promised, and on those that PyTorch is right on."""
    check("accuracy")
