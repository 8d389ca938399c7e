"""OpenMetrics text of a run, for the dashboard of the nightly runs."""

import datetime
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, get_args

from harness.channels.stored_run import StoredRun
from harness.decide.problems import exit_status
from harness.host.suite_code import UNKNOWN
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.speed import DEFINITIONS
from harness.measure.throughput import ThroughputMeasurement
from harness.record.record import Record
from harness.report.values import Outcome

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily, Metric

CHECK_LABELS = ("model", "device", "batch", "check", "emulated")
OUTCOMES = get_args(Outcome)


def openmetrics_from_run(run: StoredRun) -> str:
    """Return the text, which ends in ``# EOF``."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(run))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text.decode()


class _Collector:
    """Hands the families to the library, which writes them."""

    def __init__(self, run: StoredRun) -> None:
        self._run = run

    def collect(self) -> Iterable["Metric"]:
        """Return the families."""
        return [*_run_families(self._run), *_check_families(self._run), *_speed(self._run)]


def _run_families(run: StoredRun) -> Iterator["Metric"]:
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    facts = run.facts
    described = {
        "run_id": facts.run_id,
        "tier": facts.tier,
        "host": facts.host,
        "commit": facts.environment.get("suite.commit", UNKNOWN),
        "thresholds": facts.thresholds_digest,
    }
    yield InfoMetricFamily("acceptance_run", "The run that these values are of.", described)
    started = datetime.datetime.fromisoformat(facts.started).timestamp()
    yield GaugeMetricFamily(
        "acceptance_run_started", "When it began, in Unix time.", started, unit="seconds"
    )
    status = exit_status(run.decision.problems)
    yield GaugeMetricFamily(
        "acceptance_gate_exit_status", "0 passed, 1 failed, 6 incomplete, 7 inconclusive.", status
    )
    count = len(run.decision.problems)
    yield GaugeMetricFamily("acceptance_gate_problems", "Reasons not to be green.", count)


def _check_families(run: StoredRun) -> Iterator["Metric"]:
    from prometheus_client.core import StateSetMetricFamily

    outcomes = StateSetMetricFamily(
        "acceptance_check_outcome", "Outcome of a check; exactly one is 1.", labels=CHECK_LABELS
    )
    seconds = _gauge("acceptance_check_duration", "Time that a check took.", unit="seconds")
    measured = _gauge("acceptance_measured", "What is held against a limit.", ("finding", "unit"))
    limits = _gauge("acceptance_limit", "The limit itself.", ("finding", "unit"))
    for record in run.records:
        labels, outcome = _labels(record), run.outcome(record)
        outcomes.add_metric(labels, {name: name == outcome for name in OUTCOMES})
        seconds.add_metric(labels, record.seconds)
        for finding in record.verdict.findings:
            which = [*labels, finding.name, finding.unit]
            limits.add_metric(which, finding.limit)
            if finding.measured is not None:
                measured.add_metric(which, finding.measured)
    yield from (outcomes, seconds, measured, limits)


def _speed(run: StoredRun) -> Iterator["Metric"]:
    """Yield throughput, latency and accuracy as such, whatever the limits are about."""
    speed = _gauge("acceptance_throughput", "Mean over sessions, clips/s.", ("definition",))
    latency = _gauge(
        "acceptance_latency", "Of a query.", ("definition", "percentile"), unit="seconds"
    )
    top = _gauge("acceptance_accuracy", "Share of clips that are right.", ("top",), unit="ratio")
    for record in run.records:
        labels, found = _labels(record), record.measurement
        if isinstance(found, ThroughputMeasurement):
            _add_speed(speed, latency, labels, found)
        if isinstance(found, AccuracyMeasurement):
            for name, share in (("1", found.top1.share), ("5", found.top5.share)):
                if share is not None:
                    top.add_metric([*labels, name], share)
    yield from (speed, latency, top)


def _add_speed(
    speed: "GaugeMetricFamily",
    latency: "GaugeMetricFamily",
    labels: list[str],
    found: ThroughputMeasurement,
) -> None:
    for definition in DEFINITIONS:
        one = found.speed(definition)
        if one is None:
            continue
        speed.add_metric([*labels, definition], one.per_s.mean)
        times = {"50": one.latency_p50_ms, "90": one.latency_p90_ms, "99": one.latency_p99_ms}
        for percentile, milliseconds in times.items():
            if milliseconds is not None:
                latency.add_metric([*labels, definition, percentile], milliseconds / 1000.0)


def _gauge(name: str, text: str, more: tuple[str, ...] = (), unit: str = "") -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, labels=(*CHECK_LABELS, *more), unit=unit)


def _labels(record: Record) -> list[str]:
    emulated = "yes" if record.is_emulated else "no"
    return [record.model, record.device, record.cell.row.removeprefix("bs"), record.check, emulated]
