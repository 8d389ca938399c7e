"""`pytest --signoff`, on a small repository whose suite is a stub."""

import shutil
from pathlib import Path

import pytest

import harness
from harness.report import pdf
from harness.report.values import Release

pytest_plugins = ["pytester"]

ROOT = Path(harness.__file__).parent.parent
RELEASE = """
[tiers.release]
cells = ["nonlocal_tiny-cpu-bs1"]
required = ["nonlocal_tiny-cpu-bs1:*"]
[tiers.release.parity_inputs]
default = 1
[tiers.release.timing.default]
sessions_min = 1
sessions_max = 1
warmup_queries = 1
min_queries = 1
min_seconds = 0.0
"""
# Stands in for the suite: no device is there.
CONFTEST = """
import pytest

from harness.judge import Verdict
from harness.plugin import _run_directory
from harness.records import Record
from harness.spec import Status


class StubSuite:
    def __init__(self, run_id):
        self.run_id = run_id

    def check(self, cell, check):
        return Record(
            run_id=self.run_id, tier="release", model=cell.model, device=cell.device,
            batch=cell.batch, check=check, started="2026-11-25T00:00:00+00:00", seconds=0.0,
            verdict=Verdict(status=Status.NOT_RUN, reason="nothing is here"),
        )


@pytest.fixture(scope="session")
def acceptance_suite(request):
    return StubSuite(_run_directory(request.config).id)
"""


@pytest.fixture
def repository(pytester, monkeypatch):
    shutil.copytree(
        ROOT / "acceptance", pytester.path / "acceptance", ignore=lambda *_: {"__pycache__"}
    )
    text = (ROOT / "thresholds.toml").read_text("utf-8")
    (pytester.path / "thresholds.toml").write_text(text[: text.index("[tiers.")] + RELEASE)
    (pytester.path / "conftest.py").write_text(CONFTEST)
    for name in ("ACCEPTANCE_SITE", "ACCEPTANCE_CACHE_DIR", "PYTEST_ADDOPTS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    return pytester


def test_the_last_line_is_the_path_of_the_report(repository):
    result = repository.runpytest_inprocess("--tier", "release", "--signoff", "acceptance")
    path = Path(result.outlines[-1])
    assert path.name == "signoff.html"
    assert path.is_file()
    stored = Release.from_json((path.parent / "signoff.json").read_bytes())
    assert stored.decision == "DO NOT SHIP"
    assert stored.runs[0].is_over
    assert stored.runs[0].environment_after
    assert result.ret == 6


def test_without_the_option_there_is_none(repository):
    repository.runpytest_inprocess("--tier", "release", "acceptance")
    assert list(repository.path.rglob("signoff.html")) == []
