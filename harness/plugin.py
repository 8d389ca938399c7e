"""The pytest plugin: options, cells, fixtures and hooks; what they do stands in other modules."""

import datetime
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from harness import registry
from harness.benchmark_json import write_benchmark_json
from harness.environment import environment_facts
from harness.errors import HarnessError
from harness.gate import Problem, exit_status, problems
from harness.judge import Verdict
from harness.progress import Progress
from harness.records import Record, RunDirectory, RunFacts, new_run_directory
from harness.scope import Scope, scope_from_options
from harness.site import load_site
from harness.spec import CHECKS, Cell, Check, Presence, Status
from harness.suite import Suite
from harness.summary import is_emulated, problem_lines, table_lines
from harness.thresholds import thresholds_from_file
from harness.workbench import Workbench

TIERS = ("smoke", "nightly", "release")
SCOPE: pytest.StashKey[Scope] = pytest.StashKey()
RECORD: pytest.StashKey[Record] = pytest.StashKey()
WORKER_RUN = "acceptance_run"

RunCheck = Callable[[Check], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare every option of the suite."""
    group = parser.getgroup("acceptance", "acceptance of video models on a device")
    add = group.addoption
    add("--tier", choices=TIERS, help="how much is run (default: as -m says, or nightly)")
    add("--model", action="append", default=[], metavar="NAME", help="only this model; repeatable")
    add("--batch-size", action="append", type=int, default=[], metavar="N", help="only this one")
    add(
        "--require-devices",
        default="",
        metavar="NAMES",
        help="devices, by comma, that must be there; those that -m names are required anyway",
    )
    add("--thresholds", type=Path, metavar="FILE", help="in place of thresholds.toml")
    add("--site", type=Path, metavar="FILE", help="where this machine keeps checkpoints and data")
    add("--run-dir", type=Path, metavar="DIR", help="folder of this run; by default a new one")


# First, so that the JUnit file of pytest itself lands in the folder of the run.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and, in the process that reports, the part that decides."""
    for name in registry.device_names():
        description = registry.device(name).spec.description
        config.addinivalue_line("markers", f"{name}: cells on {description}")
    for check in CHECKS:
        config.addinivalue_line("markers", f"{check}: the {check} check of a cell")
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: cells of the {tier} tier")
    if _asks_for_acceptance(config) and not hasattr(config, "workerinput"):
        run = None if config.option.collectonly or config.option.help else _new_run(config)
        config.pluginmanager.register(Controller(config, run), "acceptance-controller")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each cell; the matrix comes from the thresholds alone."""
    if "cell" in metafunc.fixturenames:
        scope = _scope(metafunc.config)
        parameters = [
            pytest.param(cell, id=cell.id, marks=_marks(scope.markers(cell)))
            for cell in scope.cells
        ]
        metafunc.parametrize("cell", parameters, scope="session")


@pytest.fixture(scope="session")
def acceptance_suite(request: pytest.FixtureRequest) -> Suite:
    """Return what runs the checks in this process."""
    config = request.config
    scope, run = _scope(config), _run_directory(config)
    bench = Workbench(
        load_site(config.getoption("--site"), os.environ), run.root / "logs", _progress(config)
    )
    return Suite(scope.thresholds, scope.tier, bench, run)


@pytest.fixture
def check(request: pytest.FixtureRequest, cell: Cell, acceptance_suite: Suite) -> RunCheck:
    """Return what runs a check of the cell, keeps its record and ends the test by its outcome."""

    def run(name: Check) -> None:
        record = acceptance_suite.check(cell, name)
        request.node.stash[RECORD] = record
        request.node.user_properties.extend(_properties(record))
        _end_test(record.verdict)

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the record along with the report, from a worker to the controller too."""
    report = yield
    record = item.stash.get(RECORD, None)
    if report.when == "call" and record is not None:
        report.acceptance_record = record.model_dump_json()  # type: ignore[attr-defined]
    return report


class Controller:
    """Writes the records, shows the summary and decides the exit status of an acceptance run."""

    def __init__(self, config: pytest.Config, run: RunDirectory | None) -> None:
        self.config = config
        self.run = run
        self.records: list[Record] = []
        self.problems: list[Problem] = []

    def pytest_report_header(self) -> str:
        """Say which contract applies; nothing is probed."""
        scope = _scope(self.config)
        contract = f"{scope.thresholds.path.name} {scope.thresholds.digest[:12]}"
        return f"acceptance: tier {scope.tier}, {contract}, {len(scope.cells)} cells"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist the folder of the run."""
        if self.run is not None:
            node.workerinput[WORKER_RUN] = str(self.run.root)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a record, once, in the process that reports."""
        text = getattr(report, "acceptance_record", None)
        if text is not None and self.run is not None:
            record = Record.from_json(text)
            self.records.append(record)
            self.run.append(record)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Turn what ran, and what did not, into the exit status."""
        if self.run is not None and session.exitstatus in _DECIDED:
            self.problems = problems(self.records, self._required())
            status = exit_status(self.problems)
            if session.exitstatus != pytest.ExitCode.TESTS_FAILED or status:
                session.exitstatus = status
            write_benchmark_json(self.run, self.records)
        yield

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the cells by checks, then what is not green, then where the run lies."""
        if self.run is None:
            return
        terminalreporter.section("acceptance")
        if is_emulated(self.records):
            terminalreporter.write_line(
                "EMULATED: no device was there; this can never be signed off"
            )
        for line in [*table_lines(self.records), "", *problem_lines(self.problems)]:
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"run: {self.run.root}")

    def _required(self) -> list[str]:
        """Ids that must have passed, less those of absent devices that nobody asked for."""
        scope = _scope(self.config)
        present = {record.device for record in self.records if record.is_device_present}
        devices = {cell.device for cell in scope.cells} - present
        absent = {
            name for name in devices if registry.device(name).probe().presence is Presence.ABSENT
        }
        return [name for name in scope.required() if not scope.is_excusable(name, absent)]


# Exit statuses of pytest that leave the decision to the records: passed, failed, none collected.
_DECIDED = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)


class _usage_errors:  # noqa: N801 - reads as a statement
    """Show errors of the user as pytest shows wrong options, without a traceback."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Replace a HarnessError by a UsageError."""
        if isinstance(error, HarnessError):
            raise pytest.UsageError(str(error)) from error


def _scope(config: pytest.Config) -> Scope:
    if SCOPE not in config.stash:
        option = config.getoption
        path = option("--thresholds") or config.rootpath / "thresholds.toml"
        devices = [name.strip() for name in option("--require-devices").split(",") if name.strip()]
        with _usage_errors():
            config.stash[SCOPE] = scope_from_options(
                thresholds_from_file(path),
                option("--tier"),
                option("--model"),
                option("--batch-size"),
                option("-m"),
                devices,
            )
    return config.stash[SCOPE]


def _new_run(config: pytest.Config) -> RunDirectory:
    scope = _scope(config)
    with _usage_errors():
        site = load_site(config.getoption("--site"), os.environ)
        run = new_run_directory(site.run_root, config.getoption("--run-dir"))
        run.write_facts(
            RunFacts(
                run_id=run.id,
                tier=scope.tier,
                started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                command=tuple(sys.argv),
                thresholds_digest=scope.thresholds.digest,
                environment=environment_facts(scope.thresholds.path.parent),
                required=scope.required(),
            )
        )
    (run.root / "thresholds.toml").write_bytes(scope.thresholds.path.read_bytes())
    config.option.xmlpath = config.option.xmlpath or str(run.root / "junit.xml")
    return run


def _asks_for_acceptance(config: pytest.Config) -> bool:
    """Whether the arguments reach into the acceptance folder."""
    folder = config.rootpath / "acceptance"
    places = [Path(config.invocation_params.dir, arg.split("::")[0]) for arg in config.args]
    return any(
        place.resolve() == folder
        or folder in place.resolve().parents
        or (place.resolve() in folder.parents and folder.is_dir())
        for place in places
    )


def _run_directory(config: pytest.Config) -> RunDirectory:
    if hasattr(config, "workerinput"):
        return RunDirectory(Path(config.workerinput[WORKER_RUN]))
    controller = config.pluginmanager.get_plugin("acceptance-controller")
    if controller is None or controller.run is None:
        raise pytest.UsageError("acceptance checks run from the folder acceptance/ only")
    run: RunDirectory = controller.run
    return run


def _progress(config: pytest.Config) -> Progress:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return Progress()
    return Progress(reporter._tw._file, reporter.ensure_newline)


def _marks(names: tuple[str, ...]) -> list[pytest.MarkDecorator]:
    return [getattr(pytest.mark, name) for name in names]


def _properties(record: Record) -> list[tuple[str, object]]:
    """Return what JUnit shows of a record: the outcome and every number."""
    numbers = [(finding.name, finding.measured) for finding in record.verdict.findings]
    return [("status", str(record.verdict.status)), ("reason", record.verdict.reason), *numbers]


def _end_test(verdict: Verdict) -> None:
    if verdict.status is Status.NOT_RUN:
        pytest.skip(verdict.reason)
    if verdict.status is not Status.PASS:
        pytest.fail(f"{verdict.status}: {verdict.reason}", pytrace=False)
