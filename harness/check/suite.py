"""A check of a cell -> a record: errors become outcomes, and what the outcome rests on is kept."""

import contextlib
import dataclasses
import datetime
import io
import time
from collections.abc import Callable, Mapping

from harness.build.input_check import InputCheck
from harness.build.workbench import Workbench
from harness.check.checks import CHECK_FUNCTIONS
from harness.check.context import Context
from harness.check.sessions import Found
from harness.clips import Predictions
from harness.contract.thresholds import Thresholds
from harness.decide.blockers import with_blockers
from harness.device import Presence
from harness.errors import (
    DeviceAbsent,
    HarnessError,
    InvalidMeasurement,
    MissingInput,
    RecordError,
    StageError,
)
from harness.host.reading import bytes_from_file
from harness.judge.subjects import weights_problem
from harness.judge.verdict import Verdict
from harness.record.npz import predictions_from_npz
from harness.record.record import RECORDS, Record, RunDirectory, StageRecord
from harness.spec import Cell, Check, Status, Weights

TIMED = frozenset({"throughput", "startup", "soak"})


@dataclasses.dataclass(frozen=True)
class Suite:
    """One run: its contract, its tier, its folder and its workbench."""

    thresholds: Thresholds
    tier_name: str
    bench: Workbench
    run: RunDirectory
    measures: Mapping[str, Callable[[Context], Found]] = dataclasses.field(
        default_factory=lambda: CHECK_FUNCTIONS
    )

    def check(self, cell: Cell, check: Check) -> Record:
        """Run one check and return its record; every HarnessError becomes an outcome."""
        tier = self.thresholds.tier(self.tier_name)
        context = Context(
            cell,
            self.bench,
            tier,
            self.thresholds.limits(cell),
            lambda: self.accuracy_predictions(cell),
            self.seed,
            dataclasses.replace(cell, batch=1) in self.thresholds.cells(self.tier_name),
        )
        started, start_s = datetime.datetime.now(datetime.UTC), time.perf_counter()
        events = len(self.bench.workshop.store.events)
        found, raw, verdict, stage = self._outcome(context, check)
        state = self.bench.state(cell.device)
        record = Record(
            run_id=self.run.id,
            tier=self.tier_name,
            **dataclasses.asdict(cell),
            check=check,
            verdict=verdict,
            stage=stage,
            measurement=None if found is None else found.measurement,
            weights=self._weights_kind(cell),
            subjects=self._subjects(context, verdict),
            inputs=self._inputs_text(context, found),
            raw=raw,
            stages=self._stages(events),
            device_facts=dict(state.facts),
            is_device_present=state.presence is Presence.PRESENT,
            is_emulated=state.emulated,
            inputs_min=tier.inputs_for(cell),
            sessions_min=tier.timing_for(cell).sessions_min,
            started=started.isoformat(timespec="seconds"),
            seconds=time.perf_counter() - start_s,
        )
        return with_blockers(record)

    @property
    def seed(self) -> str:
        """Decides which clips mmaction2 reads as well; nobody knows it before the run."""
        return self.run.facts().nonce

    def accuracy_predictions(self, cell: Cell) -> Predictions | None:
        """Return what the accuracy check of this run has kept; None if it has not run yet."""
        return stored_predictions(self.run, cell)

    def _outcome(
        self, context: Context, check: Check
    ) -> tuple[Found | None, dict[str, str], Verdict, str | None]:
        """Return what was found, the digests of its raw files, the verdict, and a stage that broke."""
        try:
            with self.bench.beside_others():
                check_subjects(context)
            # Timing claims the processor itself; everything else keeps out of its way.
            with contextlib.nullcontext() if check in TIMED else self.bench.beside_others():
                found = self.measures[check](context)
            raw = {name: self.run.keep(*content) for name, content in found.raw.items()}
        except HarnessError as error:
            return None, {}, *outcome_from_error(error)
        return found, raw, found.verdict, None

    def _weights_kind(self, cell: Cell) -> Weights | None:
        with contextlib.suppress(HarnessError):
            return self.bench.weights(cell.model).kind
        return None

    def _subjects(self, context: Context, verdict: Verdict) -> dict[str, str]:
        """Name the digests of what was judged; nothing is built for it."""
        if verdict.status in (Status.NOT_RUN, Status.ERROR):
            return {}
        bench, cell = self.bench, context.cell
        subjects = {
            "weights": bench.weights(cell.model).digest,
            "thresholds": self.thresholds.digest,
        }
        if _weights_problem(context) is not None or _input_check(context).problem is not None:
            return subjects
        if context.limits.inputs is not None:
            subjects["inputs"] = context.limits.inputs
        # A check that ended early has not built all of them, and a build can take hours.
        built = bench.only_reading()
        with contextlib.suppress(HarnessError):
            subjects["onnx"] = built.exported(cell).artifact.sha256
            subjects["simplified"] = built.simplified(cell).artifact.sha256
            subjects["device_model"] = built.device_model(cell).artifact.sha256
        with contextlib.suppress(HarnessError):
            subjects["clips"] = context.clip_set.digest
        return subjects

    def _inputs_text(self, context: Context, found: Found | None) -> str:
        """Say what the inputs were compared with; compares nothing itself."""
        texts = [] if found is None else [_input_check(context).text, found.inputs]
        return "; ".join(filter(None, texts))

    def _stages(self, since: int) -> tuple[StageRecord, ...]:
        """Return each artifact that was asked for once, as in its first event."""
        events = self.bench.workshop.store.events[since:]
        first = {(event.kind, event.key): event for event in reversed(events)}
        return tuple(
            StageRecord(
                name=event.kind,
                seconds=event.seconds,
                peak_bytes=int(event.facts.get("peak_bytes", 0)),
                was_cached=event.hit,
            )
            for event in reversed(first.values())
        )


def _weights_problem(context: Context) -> str | None:
    """Say that the checkpoint is not the contract's; None if it is, or the weights are seeded."""
    weights, wanted = context.bench.weights(context.cell.model), context.limits.weights
    if weights.kind == "seeded":
        return None
    return weights_problem(context.cell.model, wanted, weights.digest)


def _input_check(context: Context) -> InputCheck:
    """Return what is known of the inputs; nothing where the contract asks for nothing."""
    wanted = context.limits.inputs
    return (
        InputCheck("") if wanted is None else context.bench.input_check(context.cell.model, wanted)
    )


def check_subjects(context: Context) -> None:
    """Refuse weights and inputs that nothing can be judged on."""
    # If the device is absent, the check did not run; only on a present one can it be invalid.
    context.bench.present_device(context.cell.device)
    problem = _weights_problem(context)
    if problem is not None:
        raise InvalidMeasurement(problem)
    problem = _input_check(context).problem
    if problem is not None:
        raise InvalidMeasurement(problem)


def outcome_from_error(error: HarnessError) -> tuple[Verdict, str | None]:
    """Return the verdict on a check that could not measure, and the stage that broke."""
    match error:
        case DeviceAbsent() | MissingInput():
            return Verdict(status=Status.NOT_RUN, reason=str(error)), None
        case InvalidMeasurement():
            return Verdict(status=Status.INVALID, reason=str(error)), None
        case _:
            stage = error.stage if isinstance(error, StageError) else type(error).__name__
            return Verdict(status=Status.ERROR, reason=f"{stage}: {error}"), stage


def stored_predictions(run: RunDirectory, cell: Cell) -> Predictions | None:
    """Return the device's predictions that the accuracy check of a run has kept, or None."""
    for line in bytes_from_file(run.root / RECORDS).splitlines():
        # Another process may be writing the last line.
        with contextlib.suppress(RecordError):
            record = Record.from_json(line, RECORDS)
            if record.id == f"{cell.id}:accuracy" and "predictions" in record.raw:
                return predictions_from_npz(io.BytesIO(run.read(record, "predictions")))
    return None
