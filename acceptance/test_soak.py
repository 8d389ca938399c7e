"""The device stays as fast, as cool and as small as it was, for as long as it works."""

import pytest

from harness.pytest_plugin.plugin import RunCheck


@pytest.mark.soak
def test_soak(check: RunCheck) -> None:
    """The device stays as fast, as cool and as small as it was, for as long as it works."""
    check("soak")
