"""The page of a run that still goes on: what has ended so far, served to this machine alone."""

import dataclasses
import datetime
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness.contract.thresholds import stored_thresholds
from harness.errors import HarnessError
from harness.language import ENGLISH, speaking
from harness.record.record import RECORDS, RunDirectory
from harness.report.evidence import evidence_from_records
from harness.report.merge import Merged, merged_runs
from harness.report.page import Live, page_from_release
from harness.report.release import Head, run_report_from_merged

HOST = "127.0.0.1"
# Lines of a worker's log that are shown: the last one of each.
_LOGS = "logs/progress-*.log"


class LivePage:
    """The page of a run, made again when its records have changed."""

    def __init__(self, root: Path, title: str = "", spoken: str = ENGLISH) -> None:
        self.run = RunDirectory(root)
        self._title, self._spoken = title, spoken
        self._lock = threading.Lock()
        self._seen: tuple[object, ...] = ()
        self._page = ""

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, as it should or by Ctrl-C.

        Raises:
            RecordError: it is not a run.
        """
        facts = self.run.facts()
        return facts.is_over or bool(facts.environment_after)

    def html(self) -> str:
        """Return the page; while a record is being written, the one before.

        Raises:
            HarnessError: there is none before, and the run cannot be read.
        """
        with self._lock:
            seen = (self.is_over, (self.run.root / RECORDS).stat().st_size, *self._now())
            if seen != self._seen or not self._page:
                try:
                    self._page, self._seen = self._made(), seen
                except HarnessError:
                    if not self._page:
                        raise
            return self._page

    def _made(self) -> str:
        facts = self.run.facts()
        merged = merged_runs([self.run])
        live = None
        if not self.is_over:
            merged = _as_if_over(merged)
            live = Live(
                len(merged.records), max(len(facts.required), len(merged.records)), self._now()
            )
        thresholds = stored_thresholds(self.run.root / "thresholds.toml")
        today = datetime.datetime.now(datetime.UTC).date()
        release = run_report_from_merged(merged, thresholds, today, Head(self._title))
        evidence = evidence_from_records(merged.records.values(), [self.run])
        with speaking(self._spoken):
            return page_from_release(release, evidence, live=live, beside=())

    def _now(self) -> tuple[str, ...]:
        """Return what each worker has said last."""
        logs = (path.read_text("utf-8", "replace") for path in sorted(self.run.root.glob(_LOGS)))
        return tuple(log.splitlines()[-1] for log in logs if log.strip())


def _as_if_over(merged: Merged) -> Merged:
    """Return a run without the fault of having been stopped, which one that goes on does not have."""
    runs = tuple(
        run.model_copy(
            update={
                "is_over": True,
                "faults": {k: v for k, v in run.faults.items() if k != "(run)"},
            }
        )
        for run in merged.runs
    )
    return dataclasses.replace(merged, runs=runs)


def live_server(page: LivePage, port: int) -> ThreadingHTTPServer:
    """Return a server of the page for this machine alone; it answers GET of ``/`` and writes nothing.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/" or not _is_own(self.headers.get("Host", ""), server.server_port):
                self.send_error(404)
                return
            try:
                content, status = page.html().encode(), 200
            except (HarnessError, OSError) as error:
                content, status = str(error).encode(), 503
            self.send_response(status)
            kind = "text/html" if status == 200 else "text/plain"
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: the terminal shows the run."""

    server = ThreadingHTTPServer((HOST, port), Handler)
    return server


def _is_own(host: str, port: int) -> bool:
    """Whether a request came by this machine's own name: a page of elsewhere cannot read this one."""
    return host in (f"{HOST}:{port}", f"localhost:{port}")
