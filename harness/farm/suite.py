"""The driver's suite: checks are measured on hosts of the farm, and judged here.

A host's own verdict does not count: what it measured is computed again from the raw files that it
sent, and judged under the driver's contract.
"""

import dataclasses
import datetime
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

from harness.check.suite import outcome_from_error, stored_predictions
from harness.contract.thresholds import Thresholds
from harness.decide.blockers import with_blockers
from harness.decide.rejudge import verdict_again
from harness.errors import HarnessError, InvalidMeasurement, RecordError, refusal
from harness.farm import host
from harness.farm.calls import Placement
from harness.farm.cluster import Cluster
from harness.farm.hosts import Hosts, Kind, exporters, present_devices
from harness.farm.orders import SHARD_LIMIT_S, Delivery, Order, Part, Survey
from harness.host.progress import Progress
from harness.record.npz import predictions_from_npz
from harness.record.recompute import measurement_problems
from harness.record.record import Record, RunDirectory
from harness.spec import Cell, Check


@dataclasses.dataclass(frozen=True)
class FarmSuite:
    """One run on a farm: its contract, its tier, its folder, and the hosts that it started with."""

    thresholds: Thresholds
    contract: bytes
    tier_name: str
    run: RunDirectory
    hosts: Hosts
    progress: Progress
    more_timing: tuple[int, float] = (0, 0.0)
    models: dict[Cell, Any] = dataclasses.field(default_factory=dict)
    kinds: dict[Cell, Kind] = dataclasses.field(default_factory=dict)

    def check(self, cell: Cell, check: Check) -> Record:
        """Have one check measured and return its record; every HarnessError becomes an outcome."""
        started, start_s = datetime.datetime.now(datetime.UTC), time.perf_counter()
        order = Order(
            *(self.contract, self.tier_name, cell, check),
            self.run.facts().nonce,
            *self.more_timing,
        )
        try:
            record = self._received(self._delivery(order), order)
        except HarnessError as error:
            record = self._record_of_error(error, order, started)
        record = record.model_copy(
            update={
                "run_id": self.run.id,
                "started": started.isoformat(timespec="seconds"),
                "seconds": time.perf_counter() - start_s,
                "signoff_blockers": (),
            }
        )
        return with_blockers(record)

    @property
    def cluster(self) -> Cluster:
        """The farm."""
        return self.hosts.cluster

    def _delivery(self, order: Order) -> Delivery:
        cell = order.cell
        at, self.kinds[cell] = self.hosts.place(cell.device, self.kinds.get(cell))
        models = self._models(order, dataclasses.replace(at, resources={}))
        if order.check == "accuracy":
            return self._accuracy(order, models, dataclasses.replace(at, limit_s=SHARD_LIMIT_S))
        preds = None
        if order.check == "throughput":
            preds = stored_predictions(self.run, cell)
            at = dataclasses.replace(at, limit_s=at.limit_s + 60.0 * order.budget_minutes)
        return self.cluster.call(host.measure, order, models, preds, at=at, title=order.id)

    def _models(self, order: Order, at: Placement) -> Any:
        """Return the models of a cell, each built once in the farm; they stay there."""
        cell = order.cell
        if cell not in self.models:
            exporting, title = exporters(self.hosts.now(), cell.model), f"{cell.id} export"
            onnx = self.cluster.held(host.export, order, at=exporting, title=title)
            first, title = Placement(at.hosts[:1], others=at.hosts[1:]), f"{cell.id} build"
            self.models[cell] = self.cluster.held(host.build, order, onnx, at=first, title=title)
        return self.models[cell]

    def _accuracy(self, order: Order, models: Any, at: Placement) -> Delivery:
        """Spread the clips over every chip, and PyTorch's over every host of the same kind."""
        anywhere = dataclasses.replace(at, resources={})
        call, title = self.cluster.call, order.id
        survey = call(host.survey_accuracy, order, models, at=anywhere, title=f"{title}: survey")
        calls = [(order, models, index, survey.shard_count) for index in range(survey.shard_count)]
        reference = self._parts(host.refer, calls, anywhere, survey, f"{title}: PyTorch")
        parts = self._parts(host.predict, calls, at, survey, title)
        delivery = call(
            *(host.compare, order, models, parts, reference),
            at=anywhere,
            title=f"{title}: comparison",
        )
        for what, sent in (("predictions", parts), ("reference", reference)):
            _refuse_changed(delivery, what, sent)
        return delivery

    def _parts(
        self,
        function: Callable[..., Part],
        calls: Sequence[tuple[Any, ...]],
        at: Placement,
        survey: Survey,
        title: str,
    ) -> list[Part]:
        counter = self.progress.counter(title, survey.clip_count)

        def on_done(done: int) -> None:
            counter(done * survey.clip_count // len(calls))

        parts = self.cluster.map(function, calls, at, title, on_done)
        _refuse_a_mix(parts, survey, title)
        return parts

    def _received(self, delivery: Delivery, order: Order) -> Record:
        """Return a host's record with the raw files kept here and the verdict given here."""
        record = Record.from_json(delivery.record, f"the record from {delivery.host}")
        asked = (order.cell, order.check, order.tier)
        if (record.cell, record.check, record.tier) != asked:
            raise RecordError(f"{delivery.host} sent {record.id} when asked for {order.id}")
        if unsent := sorted(record.raw.keys() - delivery.raw.keys()):
            raise RecordError(
                f"{delivery.host} sent a record of {record.id} without the raw {', '.join(unsent)} that it "
                "rests on: run the check again"
            )
        raw = {name: self.run.keep(*delivery.raw[name]) for name in record.raw}
        record = record.model_copy(update={"raw": raw})
        if record.measurement is None:
            return record
        problems = measurement_problems(record, self.run)
        if problems:
            raise InvalidMeasurement(refusal(f"{delivery.host} sent what does not hold", problems))
        verdict = verdict_again(record, self.thresholds)
        return record.model_copy(update={"verdict": verdict})

    def _record_of_error(
        self, error: HarnessError, order: Order, started: datetime.datetime
    ) -> Record:
        verdict, stage = outcome_from_error(error)
        cell, tier = order.cell, self.thresholds.tier(order.tier)
        return Record(
            run_id=self.run.id,
            tier=order.tier,
            **dataclasses.asdict(cell),
            check=order.check,
            verdict=verdict,
            stage=stage,
            is_device_present=cell.device in present_devices(self.hosts.known.values()),
            inputs_min=tier.inputs_for(cell),
            sessions_min=tier.timing_for(cell).sessions_min,
            started=started.isoformat(timespec="seconds"),
            seconds=0.0,
        )


def _refuse_a_mix(parts: Sequence[Part], survey: Survey, title: str) -> None:
    for part in parts:
        differing = [
            name for name, digest in survey.subjects.items() if part.subjects.get(name) != digest
        ]
        if differing:
            raise InvalidMeasurement(
                f"{title}: {part.host} ran with another {', '.join(differing)} than the first host; "
                "a cell is never a mix: empty the cache of one of them with harness cache prune"
            )


def _refuse_changed(delivery: Delivery, what: str, parts: Sequence[Part]) -> None:
    """Refuse merged predictions that are not, row for row, those of the parts."""
    if what not in delivery.raw:
        return
    merged = _rows(delivery.raw[what][0])
    sent = {name: row for part in parts for name, row in _rows(part.predictions).items()}
    if merged != sent:
        raise InvalidMeasurement(
            f"{delivery.host} merged other {what} than the hosts sent: throw it out of the farm"
        )


def _rows(npz: bytes) -> dict[str, bytes]:
    preds = predictions_from_npz(io.BytesIO(npz))
    rows = zip(preds.clip_ids, preds.scores, strict=True)
    return {name: row.tobytes() for name, row in rows} | {
        name: why.encode() for name, why in preds.unreadable.items()
    }
