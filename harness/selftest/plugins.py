"""Plugins of pytest that hide, swallow or deselect."""

from collections.abc import Callable, Generator
from typing import Any

import pytest

from harness.judge.verdict import Verdict
from harness.record.record import Record
from harness.spec import Check, Status


class AllPassed:
    """Reports every test as passed."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Change the report."""
        report = yield
        report.outcome, report.longrepr = "passed", None
        return report


class ExitZero:
    """Ends every session with exit status 0."""

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Change the exit status."""
        session.exitstatus = 0


class Deselects:
    """Takes the checks out after they were collected."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Change what was collected."""
        items.clear()


class Marks:
    """Marks every test."""

    def __init__(self, mark: pytest.MarkDecorator) -> None:
        self._mark = mark

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Change what was collected."""
        for item in items:
            item.add_marker(self._mark)


class NothingCalled:
    """Takes the place of the call of every test."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self) -> bool:
        """Stand in for the call."""
        return True


class NothingRun:
    """Takes the place of the whole protocol of every test."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> bool:
        """Say that the test was run."""
        return True


class Swallows:
    """Swallows what a test raises."""

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self) -> Generator[None, object, object]:
        """Stand in for the call."""
        try:
            yield
        except BaseException:  # noqa: BLE001 - that is the planted fault
            return True
        return True


class OwnCheck:
    """Gives the tests a check that does nothing."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object], request: Any) -> object:
        """Stand in for the fixture."""
        if fixturedef.argname != "check":
            return None
        nothing: Callable[[Check], None] = lambda name: None
        fixturedef.cached_result = (nothing, fixturedef.cache_key(request), None)
        return nothing


class Again:
    """Runs every test twice, as a plugin that re-runs failures does."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Change what was collected."""
        items.extend([*items])


class GreenRecord:
    """Writes a pass into the record on its way to the controller."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Change the report."""
        report = yield
        text = getattr(report, "acceptance_record", None)
        if text is not None:
            record = Record.from_json(text)
            findings = [one.model_copy(update={"is_met": True}) for one in record.verdict.findings]
            verdict = Verdict(status=Status.PASS, reason="fine", findings=tuple(findings))
            report.acceptance_record = record.model_copy(  # type: ignore[attr-defined]
                update={"verdict": verdict}
            ).model_dump_json()
            report.outcome, report.longrepr = "passed", None
        return report
