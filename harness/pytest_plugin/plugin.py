"""The pytest plugin: options, cells, fixtures and hooks; the work is done in other modules."""

import argparse
import itertools
import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from harness import registry
from harness.build.workbench import Workbench
from harness.check.suite import Suite
from harness.contract.thresholds import tier_names
from harness.decide.waivers import Decision, review
from harness.host.progress import INTERVAL_S
from harness.language import LANGUAGES, _
from harness.locale.recorded import translated
from harness.measure.soak import SoakMeasurement
from harness.pytest_plugin.controller import WORKER_RUN, Controller, junit_properties
from harness.pytest_plugin.farm import farm_from_config, more_timing, site_from_config
from harness.pytest_plugin.options import scope_from_config, speaking_as_asked, thresholds_path
from harness.pytest_plugin.terminal import (
    CheckLines,
    is_check,
    progress_from_config,
    start_worker_progress,
)
from harness.record.record import Record, RunDirectory
from harness.record.reproduce import reproduce_check
from harness.spec import ALL_CHECKS, Cell, Check, Status

if TYPE_CHECKING:
    from xdist.remote import Producer

    from harness.farm.suite import FarmSuite
    from harness.pytest_plugin.scheduling import CellScheduling

RECORD: pytest.StashKey[Record] = pytest.StashKey()
CONTROLLER = "acceptance-controller"

RunCheck = Callable[[Check], None]
T = TypeVar("T", int, float)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare every option of the suite."""
    group = parser.getgroup("acceptance", "acceptance of video models on a device")
    add = group.addoption
    add("--tier", metavar="NAME", help="tier to run (default: the one that -m names, else nightly)")
    add("--model", action="append", default=[], metavar="NAME", help="only this model; repeatable")
    add(
        "--batch-size",
        action="append",
        type=int,
        default=[],
        metavar="N",
        help="only this one; repeatable",
    )
    add(
        "--require-devices",
        default="",
        metavar="NAMES",
        help="comma-separated devices that must be present, like those that -m names",
    )
    add(
        "--sessions",
        type=_positive(int),
        default=0,
        metavar="N",
        help="add timed sessions, up to N a cell, while they do not decide; never fewer than the tier",
    )
    add(
        "--budget-minutes",
        type=_positive(float),
        default=0.0,
        metavar="M",
        help="add timed sessions for M minutes a cell while they do not decide",
    )
    add(
        "--thresholds", type=Path, metavar="FILE", help="contract to use instead of thresholds.toml"
    )
    add("--site", type=Path, metavar="FILE", help="where this machine keeps checkpoints and data")
    add(
        "--farm",
        metavar="ADDRESS",
        help="measure on the hosts of a Ray cluster: ray://HEAD:10001, or auto for this host's own",
    )
    add("--signoff", action="store_true", help="write the page of the run at its end")
    add("--language", choices=LANGUAGES, help="of the summary and the page; default: of site.toml")
    add("--title", default="", metavar="TEXT", help="product and release, for the page")
    add("--run-dir", type=Path, metavar="DIR", help="folder for this run (default: a new one)")
    add(
        "--progress-interval",
        type=_positive(float),
        default=INTERVAL_S,
        metavar="SECONDS",
        help="longest silence of a check in a pipe or a CI log (default: %(default)g)",
    )
    add("--history", type=Path, metavar="FILE", help="add this run to the nightly history")


# First, so that the JUnit file of pytest itself lands in the folder of the run.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and, in the process that reports, the part that decides."""
    for name, spec in registry.device_specs().items():
        config.addinivalue_line("markers", f"{name}: cells on {spec.description}")
    for check in ALL_CHECKS:
        config.addinivalue_line("markers", f"{check}: the {check} check of a cell")
    for tier in tier_names(thresholds_path(config)):
        config.addinivalue_line("markers", f"{tier}: cells of the {tier} tier")
    if _asks_for_acceptance(config) and not hasattr(config, "workerinput"):
        controller = Controller(config)
        if config.pluginmanager.register(controller, CONTROLLER) is None:
            raise pytest.UsageError(f"{CONTROLLER} decides the outcome; do not block it")
        config.pluginmanager.register(CheckLines(config), "acceptance-lines")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let a worker of xdist report its progress."""
    start_worker_progress(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "CellScheduling | None":
    """Keep the checks of a cell in one worker."""
    from harness.pytest_plugin.scheduling import CellScheduling

    is_ours = _asks_for_acceptance(config) and config.getoption("dist") != "each"
    return CellScheduling(config, log) if is_ours else None


# After -m has taken out the cells that do not run.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run cell after cell, the cheapest first, so that a verdict is seen early.

    Under ``-n`` one worker starts with the cheapest and the others with the most expensive, so that no
    worker is left with one of those at the end.
    """
    others = [item for item in items if not is_check(item)]
    checks = sorted(filter(is_check, items), key=_cost)
    cells = [list(group) for _, group in itertools.groupby(checks, _cell)]
    if hasattr(config, "workerinput"):
        cells[1:] = reversed(cells[1:])
    items[:] = [*others, *itertools.chain.from_iterable(cells)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each cell; the matrix comes from the thresholds alone."""
    if {"cell", "check"} <= set(metafunc.fixturenames):
        scope = scope_from_config(metafunc.config)
        parameters = [
            pytest.param(
                cell, id=cell.id, marks=[getattr(pytest.mark, name) for name in scope.markers(cell)]
            )
            for cell in scope.cells
        ]
        metafunc.parametrize("cell", parameters, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, object, object]:
    """Leave out what a cell is not checked for, as its contract limits nothing there."""
    made = yield
    return list(filter(_is_wanted, made)) if isinstance(made, list) else made


@pytest.fixture(scope="session")
def acceptance_suite(request: pytest.FixtureRequest) -> "Suite | FarmSuite":
    """Return what runs the checks: in this process, or on a farm."""
    config = request.config
    scope, run = scope_from_config(config), _run_directory(config)
    progress, more = progress_from_config(config), more_timing(config)
    thresholds, site = scope.thresholds.with_more_timing(*more), site_from_config(config)
    hosts = farm_from_config(config, progress.say)
    if hosts is None:
        return Suite(thresholds, scope.tier, Workbench(site, run.root / "logs", progress), run)
    from harness.farm.suite import FarmSuite

    return FarmSuite(
        thresholds=thresholds,
        contract=thresholds.path.read_bytes(),
        tier_name=scope.tier,
        run=run,
        hosts=hosts,
        progress=progress,
        cache_dir=site.cache_dir,
        more_timing=more,
    )


@pytest.fixture
def check(
    request: pytest.FixtureRequest, cell: Cell, acceptance_suite: "Suite | FarmSuite"
) -> RunCheck:
    """Return what runs a check of the cell, keeps its record and ends the test by its outcome."""

    def run(name: Check) -> None:
        with progress_from_config(request.config).watched(f"{cell.id} {name}"):
            record = acceptance_suite.check(cell, name)
        request.node.stash[RECORD] = record
        # Ctrl-C ends a soak, which keeps what it measured, and then the run.
        if isinstance(record.measurement, SoakMeasurement) and record.measurement.is_stopped:
            request.session.shouldstop = f"{record.id} was stopped"
        request.node.user_properties.extend(junit_properties(record))
        config = request.config
        today = _run_directory(config).facts().started_on
        waivers = scope_from_config(config).thresholds.file.waivers
        with speaking_as_asked(config):
            _end_test(record, review([record], waivers, today))

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


def _positive(number: type[T]) -> Callable[[str], T]:
    """Return what reads a number above zero from the command line."""

    def read(text: str) -> T:
        value = number(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return value

    read.__name__ = number.__name__
    return read


def _asks_for_acceptance(config: pytest.Config) -> bool:
    """Whether the arguments reach into the acceptance folder."""
    folder = (config.rootpath / "acceptance").resolve()
    start, names = config.invocation_params.dir, (arg.split("::")[0] for arg in config.args)
    places = [Path(start, name).resolve() for name in names]
    return any(
        place.is_relative_to(folder) or (folder.is_relative_to(place) and folder.is_dir())
        for place in places
    )


def _run_directory(config: pytest.Config) -> RunDirectory:
    if hasattr(config, "workerinput"):
        return RunDirectory(Path(config.workerinput[WORKER_RUN]))
    controller = config.pluginmanager.get_plugin(CONTROLLER)
    if controller is None or controller.run is None:
        raise pytest.UsageError("acceptance checks run from the folder acceptance/ only")
    run: RunDirectory = controller.run
    return run


def _cell(item: pytest.Item) -> Cell:
    cell: Cell = item.callspec.params["cell"]  # type: ignore[attr-defined]
    return cell


def _is_wanted(item: pytest.Item | pytest.Collector) -> bool:
    if not isinstance(item, pytest.Item) or not is_check(item):
        return True
    scope = scope_from_config(item.config)
    checks = scope.thresholds.checks(_cell(item), scope.tier)
    return any(item.get_closest_marker(name) for name in checks)


def _cost(item: pytest.Item) -> tuple[int, str, int]:
    """Order checks by the size of a query, then by cell and check."""
    cell = _cell(item)
    checks = [number for number, name in enumerate(ALL_CHECKS) if item.get_closest_marker(name)]
    inputs = registry.model_spec(cell.model).batched_inputs(cell.batch)
    size = sum(math.prod(one.shape) for one in inputs)
    return size, cell.id, min(checks, default=len(ALL_CHECKS))


def _end_test(record: Record, reviewed: Decision) -> None:
    verdict = record.verdict
    if record.id in reviewed.waived:
        outcome = _(", ").join((_(verdict.status), _("waived")))
        pytest.xfail(f"{outcome}: {reviewed.waived[record.id].reason}")
    if verdict.status is Status.PASS and reviewed.problems:
        pytest.fail(translated(reviewed.problems[0].reason), pytrace=False)
    if verdict.status is Status.NOT_RUN:
        pytest.skip(translated(verdict.reason))
    if verdict.status is not Status.PASS:
        reproduce = _("Reproduce: ") + reproduce_check(record)
        reason = f"{_(verdict.status)}: {translated(verdict.reason)}"
        pytest.fail(f"{reason}\n{reproduce}", pytrace=False)
