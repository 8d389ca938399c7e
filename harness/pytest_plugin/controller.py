"""The controller of an acceptance run: keeps its records, shows the summary, decides the exit status."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from harness.contract.floor_lint import floor_warnings
from harness.contract.scope import refuse_unknown_cells
from harness.contract.tables import Waiver
from harness.decide.problems import ExitStatus, exit_status
from harness.decide.summary import summary_lines
from harness.decide.waivers import Decision, decide
from harness.errors import HarnessError, RecordError, first_line
from harness.host.environment import environment_facts
from harness.host.site import Site
from harness.language import _
from harness.locale.recorded import translated
from harness.nightly.history import History
from harness.pytest_plugin.farm import absent_devices, more_timing, site_from_config
from harness.pytest_plugin.options import (
    only_lists,
    scope_from_config,
    speaking_as_asked,
    spoken,
    thresholds_path,
    usage_errors,
)
from harness.record.begun import begun_run, run_folder
from harness.record.benchmark_json import write_benchmark_json
from harness.record.facts import RunFacts
from harness.record.record import Record, RunDirectory
from harness.record.reproduce import reproduce_check
from harness.report.write import report_lines
from harness.spec import Status

WORKER_RUN = "acceptance_run"

# Exit statuses of pytest that leave the decision to the records: passed, failed, none collected.
_DECIDED = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)
# After Ctrl-C, too, the summary says what did not run; the exit status stays pytest's.
_JUDGED = (*_DECIDED, pytest.ExitCode.INTERRUPTED)


class Controller:
    """Writes the records, shows the summary and decides the exit status of an acceptance run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.root: Path | None = None
        self.site: Site | None = None
        if not only_lists(config):
            with usage_errors():
                self.site = site_from_config(config)
            self.root = _run_folder(config, self.site)
        self.run: RunDirectory | None = None
        self.records: list[Record] = []
        self.broken: dict[str, str] = {}
        self.decision = Decision([], {})
        self.facts: RunFacts | None = None
        self.history_line = ""

    # Before the header is shown and before xdist starts its workers.
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Make the folder of the run, unless tests are only listed."""
        if self.root is not None and self.site is not None:
            with usage_errors():
                refuse_unknown_cells(self.site, scope_from_config(self.config).thresholds)
            self.run = _new_run(self.config, self.root)

    def pytest_report_header(self) -> list[str]:
        """Say which contract applies and which floors are within noise; nothing is probed."""
        scope = scope_from_config(self.config)
        contract = f"{scope.thresholds.path.name} {scope.thresholds.digest[:12]}"
        asked = {"tier": scope.tier, "contract": contract, "n": len(scope.cells)}
        with speaking_as_asked(self.config):
            warnings = map(translated, floor_warnings(scope.thresholds, scope.cells))
            return [
                _("acceptance: tier {tier}, {contract}, {n} cells").format(**asked),
                *(_("acceptance: warning: {text}").format(text=text) for text in warnings),
            ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist the folder of the run."""
        if self.run is not None:
            node.workerinput[WORKER_RUN] = str(self.run.root)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record of a check, or the reason why a test left none."""
        if self.run is None:
            return
        text = getattr(report, "acceptance_record", None)
        record = None if text is None else Record.from_json(text)
        if record is not None:
            self._keep(self.run, record)
        # Nothing else reports a test that fails beside a green record, or without a record; a pass
        # that a waiver forbids, the review of the waivers reports.
        if report.failed and (record is None or self._is_plain_pass(record)):
            self.broken[report.nodeid] = f"{report.when} failed: {_why_failed(report)}"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be collected."""
        if report.failed:
            self.broken[report.nodeid] = f"collection failed: {_why_failed(report)}"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Turn what ran, and what did not, into the exit status."""
        if self.run is None or session.exitstatus not in _JUDGED:
            return (yield)
        status = self._conclude(self.run, session.exitstatus)
        with speaking_as_asked(self.config):
            is_kept = self._remember(self.run)
        if not is_kept:
            status = ExitStatus.FAILED
        if session.exitstatus in _DECIDED:
            session.exitstatus = status
        result = yield
        # Whatever another plugin has made of it: no green without having seen it.
        session.exitstatus = session.exitstatus or status
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the cells by checks, then what is not green, then where the run lies."""
        if self.run is None:
            return
        facts = self.facts or self.run.facts()
        terminalreporter.section("acceptance")
        thresholds = scope_from_config(self.config).thresholds
        with speaking_as_asked(self.config):
            lines = [*summary_lines(self.records, self.decision, thresholds, facts), ""]
            lines += [self.history_line] if self.history_line else []
            lines.append(_("run: {folder}").format(folder=self.run.root))
        for line in lines:
            terminalreporter.write_line(line)

    # After pytest's own last line, so that the path of the report is the last thing to be read.
    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Make the report of the run, where it was asked for, and say where it lies."""
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if self.run is None or reporter is None or not config.getoption("--signoff"):
            return
        title = config.getoption("--title") or (self.site.title if self.site else "")
        thresholds = scope_from_config(config).thresholds
        for line in report_lines(self.run, thresholds, title, spoken(config)):
            reporter.write_line(line)

    @property
    def _waivers(self) -> tuple[Waiver, ...]:
        return scope_from_config(self.config).thresholds.file.waivers

    def _is_plain_pass(self, record: Record) -> bool:
        names = {waiver.id for waiver in self._waivers}
        is_waived = not record.is_emulated and record.id in names
        return record.verdict.status is Status.PASS and not is_waived

    def _keep(self, run: RunDirectory, record: Record) -> None:
        if record.run_id != run.id:
            self.broken[record.id] = f"its record is of run {record.run_id}, not of this one"
            return
        if record.id not in {known.id for known in self.records}:
            try:
                run.append(record)
            except RecordError as error:
                self.broken[record.id] = str(error)
        self.records.append(record)

    def _conclude(self, run: RunDirectory, ended: int) -> ExitStatus:
        """Find what is not green, and write what is known now that the run is over."""
        try:
            write_benchmark_json(run, self.records)
        except (HarnessError, OSError) as error:
            self.broken["benchmark.json"] = f"cannot be written: {first_line(error)}"
        facts, after = run.facts(), environment_facts(thresholds_path(self.config))
        late = {"environment_after": after, "is_over": ended in _DECIDED}
        facts = facts.model_copy(update={"excused": self._excused(facts.required), **late})
        self.decision = self._decide(facts)
        if ended and not self.decision.problems:
            self.broken["pytest"] = f"ended with exit status {int(ended)}"
            self.decision = self._decide(facts)
        self.facts = facts.model_copy(update={"broken": self.broken})
        try:
            run.close(self.facts)
        except RecordError as error:
            self.broken["run.json"] = str(error)
            self.decision = self._decide(facts)
        return exit_status(self.decision.problems)

    def _decide(self, facts: RunFacts) -> Decision:
        facts = facts.model_copy(update={"broken": self.broken})
        return decide(self.records, facts, self._waivers, facts.started_on)

    def _remember(self, run: RunDirectory) -> bool:
        """Add the run to the history, where one is kept; False if it cannot be added."""
        kept = None if self.site is None else self.site.history
        path = self.config.getoption("--history") or kept
        if path is None:
            return True
        try:
            added = History(path).append(run)
        except HarnessError as error:
            self.history_line = _("NOT IN THE HISTORY: {error}").format(
                error=translated(str(error))
            )
            return False
        note = _("; ") + translated(added.note) if added.note else ""
        self.history_line = _("history: {path}").format(path=path) + note
        return True

    def _excused(self, required: tuple[str, ...]) -> tuple[str, ...]:
        """Return the required checks that may be missing: of absent devices that nobody named.

        If that were all of them, none is excused, so that the summary says which probe failed.
        """
        scope = scope_from_config(self.config)
        present = {record.device for record in self.records if record.is_device_present}
        devices = {cell.device for cell in scope.cells} - present - scope.named_devices
        absent = absent_devices(self.config, devices, self.site)
        excused = tuple(name for name in required if scope.is_excusable(name, absent))
        return excused if len(excused) < len(required) else ()


def _run_folder(config: pytest.Config, site: Site) -> Path:
    """Choose the folder of the run, for pytest's JUnit file too; nothing is made yet."""
    root = run_folder(site.run_root, config.getoption("--run-dir"))
    config.option.xmlpath = getattr(config.option, "xmlpath", None) or str(root / "junit.xml")
    return root


def _new_run(config: pytest.Config, root: Path) -> RunDirectory:
    scope = scope_from_config(config)
    with usage_errors():
        return begun_run(root, scope.thresholds, scope.tier, scope.required(), more_timing(config))


def junit_properties(record: Record) -> list[tuple[str, object]]:
    """Return what JUnit shows of a record: the outcome, every number, and how to repeat it."""
    numbers = [(finding.name, finding.measured) for finding in record.verdict.findings]
    return [
        ("status", str(record.verdict.status)),
        ("reason", record.verdict.reason),
        *numbers,
        *([("emulated", "yes")] if record.is_emulated else []),
        ("reproduce", reproduce_check(record)),
    ]


def _why_failed(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = report.longreprtext if crash is None else crash.message.partition("\n")[0]
    lines = [line.removeprefix("E ").strip() for line in text.splitlines()]
    return next(filter(None, reversed(lines)), "no reason was given")
