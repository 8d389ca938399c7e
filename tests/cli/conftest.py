import pytest

import harness.models
from harness.host.site import FIXTURES


@pytest.fixture
def contract(monkeypatch, tmp_path):
    """A contract and a folder of models that may be written to."""
    (tmp_path / "models").mkdir()
    paths = [str(tmp_path / "models"), *harness.models.__path__]
    monkeypatch.setattr(harness.models, "__path__", paths)
    path = tmp_path / "thresholds.toml"
    path.write_text((FIXTURES.parent / "thresholds.toml").read_text())
    return path
