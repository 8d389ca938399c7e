"""Runs of several devices and hosts as one: every record once, and what does not fit together."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from harness.errors import RecordError
from harness.host.provenance import sha256_from_file
from harness.host.suite_code import UNKNOWN
from harness.record.facts import FACTS
from harness.record.recompute import founded_records
from harness.record.record import RECORDS, Record, RunDirectory, RunFacts
from harness.report.values import RunLine
from harness.spec import Status

# Of two records of one check the worse is kept: re-running a check until it passes does not count.
_WORST_FIRST = (
    Status.FAIL,
    Status.ERROR,
    Status.INVALID,
    Status.INCONCLUSIVE,
    Status.PASS,
    Status.NOT_RUN,
)


@dataclasses.dataclass(frozen=True)
class Merged:
    """What several runs come to.

    Attributes:
        runs: in the order they were given.
        records: one a check, by id; of several that ran the worst.
        repeated: by id of a check that ran more than once, the runs that hold it.
        by_run: every record, in the order of the runs.
        must_pass: ids of the checks that any of the runs was asked to pass.
    """

    runs: tuple[RunLine, ...]
    records: Mapping[str, Record]
    repeated: Mapping[str, tuple[str, ...]]
    by_run: tuple[tuple[Record, ...], ...] = ()
    must_pass: tuple[str, ...] = ()

    @property
    def commits(self) -> tuple[str, ...]:
        """Suite commits of the runs, each once."""
        return tuple(dict.fromkeys(run.commit for run in self.runs))

    @property
    def tiers(self) -> tuple[str, ...]:
        """Tiers of the runs, each once."""
        return tuple(dict.fromkeys(run.tier for run in self.runs))


def merged_runs(runs: Sequence[RunDirectory]) -> Merged:
    """Read runs and put them together.

    Raises:
        RecordError: there is none, one is given twice, or one cannot be read: a record is
            truncated, of another schema or of another run, a raw file is missing or changed, or a
            measurement does not follow from its raw files.
    """
    if not runs:
        raise RecordError("no run was given, so there is nothing to sign; name the run folders")
    facts = [run.facts() for run in runs]
    names = [one.run_id for one in facts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecordError(f"run {', '.join(twice)} is given twice; name each run folder once")
    records = [founded_records(run) for run in runs]
    by_id: dict[str, list[Record]] = {}
    for record in (record for group in records for record in group):
        by_id.setdefault(record.id, []).append(record)
    return Merged(
        runs=tuple(map(_run_line, runs, facts, map(len, records))),
        records={name: min(group, key=_badness) for name, group in by_id.items()},
        repeated=dict(_repeated(by_id)),
        by_run=tuple(map(tuple, records)),
        must_pass=tuple(dict.fromkeys(name for one in facts for name in one.must_pass)),
    )


def _badness(record: Record) -> int:
    return _WORST_FIRST.index(record.verdict.status)


def _repeated(by_id: Mapping[str, Sequence[Record]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, group in by_id.items():
        ran = tuple(
            record.run_id for record in group if record.verdict.status is not Status.NOT_RUN
        )
        if len(ran) > 1:
            yield name, ran


def _run_line(run: RunDirectory, facts: RunFacts, record_count: int) -> RunLine:
    environment = facts.environment
    dirty = environment.get("suite.dirty", UNKNOWN)
    return RunLine(
        run_id=facts.run_id,
        tier=facts.tier,
        started=facts.started,
        command=facts.command,
        host=environment.get("host", UNKNOWN),
        commit=environment.get("suite.commit", UNKNOWN),
        is_dirty={"yes": True, "no": False}.get(dirty),
        thresholds=facts.thresholds_digest,
        is_over=facts.is_over,
        is_bound=bool(facts.nonce),
        faults=facts.faults,
        record_count=record_count,
        records_sha256=sha256_from_file(run.root / RECORDS),
        facts_sha256=sha256_from_file(run.root / FACTS),
        environment=environment,
        environment_after=facts.environment_after,
    )
