"""The device gets as many clips right as promised, including those that PyTorch gets right."""

import pytest

from harness.pytest_plugin.plugin import RunCheck


@pytest.mark.accuracy
def test_accuracy(check: RunCheck) -> None:
    """The device gets as many clips right as promised, including those that PyTorch gets right."""
    check("accuracy")
