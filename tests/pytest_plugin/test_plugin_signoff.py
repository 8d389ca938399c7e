"""`pytest --signoff`, on a small repository whose suite is a stub."""

from pathlib import Path

import pytest

from harness.report import pdf
from harness.report.values import Release
from tests.made import small_repository, tier

pytest_plugins = ["pytester"]

CELLS = ["nonlocal_tiny-cpu-bs1"]
RELEASE = tier("release", CELLS, ["nonlocal_tiny-cpu-bs1:*"], inputs=1)
# Stands in for the suite: no device is there.
CONFTEST = """
import pytest

from harness.judge.verdict import Verdict
from harness.pytest_plugin.plugin import _run_directory
from harness.record.record import Record
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
    small_repository(pytester.path, RELEASE, CONFTEST, monkeypatch)
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
