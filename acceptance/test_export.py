"""The ONNX files are valid, as declared, and made of operators that the device supports."""

import pytest

from harness.pytest_plugin.plugin import RunCheck


@pytest.mark.export
def test_export(check: RunCheck) -> None:
    """The ONNX files are valid, as declared, and made of operators that the device supports."""
    check("export")
