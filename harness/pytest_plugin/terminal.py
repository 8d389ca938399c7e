"""Progress of an acceptance run on pytest's terminal: past its capture, and from xdist's workers.

While a test runs, pytest redirects the file descriptor that its own terminal writes to. The terminal
of an acceptance run therefore gets a copy of it. A worker has no terminal: it writes its progress to a
log in the folder of the run, and the process that reports shows each line of it.
"""

import io
import logging
import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from harness.decide.summary import check_line
from harness.host.progress import Progress
from harness.pytest_plugin.controller import WORKER_RUN
from harness.pytest_plugin.options import scope_from_config, speaking_as_asked
from harness.record.record import Record

PROGRESS: pytest.StashKey[Progress] = pytest.StashKey()
_POLL_S = 0.2


def progress_from_config(config: pytest.Config) -> Progress:
    """Return what shows the progress of this process; it shows nothing before the session starts."""
    return config.stash.get(PROGRESS, Progress())


def start_worker_progress(config: pytest.Config) -> None:
    """Open the progress log of a worker of xdist."""
    worker: Any = getattr(config, "workerinput", {})
    if WORKER_RUN not in worker:
        return
    folder = Path(worker[WORKER_RUN]) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    stream = (folder / f"progress-{worker['workerid']}.log").open("a", encoding="utf-8")
    config.add_cleanup(stream.close)
    _keep(config, Progress(stream, interval_s=config.getoption("--progress-interval")))


class CheckLines:
    """A line for each check as it ends, in place of pytest's letters, and the progress in between.

    With ``-q`` and ``-v`` pytest's own letters and lines stay, and the progress alone is added.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._relay: Relay | None = None
        self._is_on = config.get_verbosity() == 0 and config.pluginmanager.has_plugin("terminal")

    # While nothing is captured yet, and before xdist starts its workers.
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Open the terminal for the progress of this process."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        interval_s = self._config.getoption("--progress-interval")
        _write_past_capture(self._config, reporter)
        stream = reporter._tw._file
        _keep(self._config, Progress(stream, lambda: _begin_line(reporter), interval_s))

    # When the worker knows the folder of the run.
    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Show the progress of the workers of xdist."""
        if self._relay is None and WORKER_RUN in node.workerinput:
            say = progress_from_config(self._config).say
            self._relay = Relay(Path(node.workerinput[WORKER_RUN]), say)
            self._relay.start()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Drop the names of the files where nothing but checks runs."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if self._is_on and reporter is not None and all(map(is_check, session.items)):
            reporter.showfspath = False

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """Drop the letter of a check."""
        category, letter, word = yield
        return category, "" if self._has_line(report) else letter, word

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the line of a check."""
        if self._has_line(report):
            record = Record.from_json(report.acceptance_record)
            waivers = scope_from_config(self._config).thresholds.file.waivers
            with speaking_as_asked(self._config):
                line = check_line(record, {waiver.id for waiver in waivers})
            progress_from_config(self._config).say(line)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Show what the workers have written last."""
        if self._relay is not None:
            self._relay.end()

    def _has_line(self, report: pytest.TestReport | pytest.CollectReport) -> bool:
        return self._is_on and hasattr(report, "acceptance_record")


def is_check(item: pytest.Item) -> bool:
    """Whether a test runs a check of a cell."""
    cells = getattr(item, "callspec", None)
    names = getattr(item, "fixturenames", ())
    return cells is not None and "cell" in cells.params and "check" in names


class Relay(threading.Thread):
    """Shows what the workers of xdist write to their logs, each line once."""

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self._logs = run / "logs"
        self._say = say
        self._shown: dict[Path, int] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        """Show new lines until ``end`` is called."""
        while not self._ended.wait(_POLL_S):
            self._show()
        self._show()

    def end(self) -> None:
        """Show what is left and stop."""
        self._ended.set()
        self.join()

    def _show(self) -> None:
        for path in sorted(self._logs.glob("progress-*.log")):
            start = self._shown.get(path, 0)
            whole, newline, _ = path.read_bytes()[start:].rpartition(b"\n")
            self._shown[path] = start + len(whole) + len(newline)
            for line in whole.decode("utf-8", "replace").splitlines():
                self._say(f"[{path.stem.removeprefix('progress-')}] {line}")


class _Shown(logging.Handler):
    """Shows the warnings of the suite, which pytest would keep until a test has failed."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.say(record.getMessage())


def _keep(config: pytest.Config, progress: Progress) -> None:
    config.stash[PROGRESS] = progress
    logger, handler = logging.getLogger("harness"), _Shown(progress)
    logger.addHandler(handler)
    config.add_cleanup(lambda: logger.removeHandler(handler))


def _write_past_capture(config: pytest.Config, reporter: pytest.TerminalReporter) -> None:
    writer = reporter._tw
    original = writer._file
    if config.getoption("capture") != "fd":
        return
    try:
        copy = os.dup(original.fileno())
    except (OSError, io.UnsupportedOperation):  # it writes to no file, so nothing redirects it
        return
    original.flush()
    stream = os.fdopen(copy, "w", 1, original.encoding, "backslashreplace")
    writer._file = stream

    def restore() -> None:
        writer._file = original
        stream.close()

    config.add_cleanup(restore)


def _begin_line(reporter: pytest.TerminalReporter) -> None:
    if reporter._tw.width_of_current_line:
        reporter._tw.line()
    reporter.currentfspath = None
