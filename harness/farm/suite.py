"""The driver's suite: checks are measured on hosts of the farm, and judged here.

A host's own verdict does not count: what it measured is computed again from the raw files that it
sent, and judged under the driver's contract.
"""

import dataclasses
import datetime
import functools
import time
from contextlib import AbstractContextManager
from pathlib import Path
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
from harness.farm.kept import KeptParts, kept_parts
from harness.farm.orders import SHARD_LIMIT_S, Delivery, Order, Survey
from harness.farm.spread import Spread
from harness.host.progress import Progress
from harness.host.suite_code import suite_digest
from harness.measure.measurement import json_lines
from harness.record.recompute import measurement_problems
from harness.record.record import Record, RunDirectory
from harness.record.stints import HOSTS
from harness.registry import model_spec
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
    cache_dir: Path
    more_timing: tuple[int, float] = (0, 0.0)
    models: dict[Cell, Any] = dataclasses.field(default_factory=dict)
    kinds: dict[Cell, Kind] = dataclasses.field(default_factory=dict)

    def check(self, cell: Cell, check: Check) -> Record:
        """Have a host measure one check and return the record; every HarnessError becomes an outcome."""
        started, start_s = datetime.datetime.now(datetime.UTC), time.perf_counter()
        order = Order(
            *(self.contract, self.tier_name, cell, check),
            self.run.facts().nonce,
            *self.more_timing,
        )
        before = len(self.cluster.stints)
        try:
            record = self._received(self._delivery(order), order)
        except HarnessError as error:
            record = self._record_of_error(error, order, started)
        raw = dict(record.raw)
        if stints := self.cluster.stints[before:]:
            raw[HOSTS] = self.run.keep(json_lines(stints), ".jsonl")
        record = record.model_copy(
            update={
                "run_id": self.run.id,
                "raw": raw,
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
            at = dataclasses.replace(at, limit_s=SHARD_LIMIT_S)
            at, readers = self.hosts.reading(at, model_spec(cell.model).dataset)
            torch, shared = self.hosts.alike_in_threads(at)
            here = self.run, self.progress, functools.partial(self._kept, cell, shared)
            return Spread(self.cluster, order, models, at, torch, *here, readers).delivery()
        preds = None
        if order.check == "throughput":
            preds = stored_predictions(self.run, cell)
        minutes = order.budget_minutes + (self.thresholds.tier(order.tier).soak_minutes or 0.0)
        at = dataclasses.replace(at, limit_s=at.limit_s + 60.0 * minutes)
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

    def _kept(self, cell: Cell, torch: Kind, survey: Survey) -> AbstractContextManager[KeptParts]:
        clips = {"clip count": survey.clip_count, "shards": len(survey.shards())}
        all_have = {"suite": suite_digest(), "model": cell.model, "torch": torch, **clips}
        reference = {**survey.subjects_of("reference"), **all_have}
        key = {"cell": cell.id, "hosts": self.kinds[cell], **survey.subjects, **all_have}
        names = {facts.name for facts in self.hosts.now().values()}
        return kept_parts(self.cache_dir, key, reference, names)

    def _received(self, delivery: Delivery, order: Order) -> Record:
        """Return a host's record with the raw files kept here and the verdict given here."""
        record = Record.from_json(delivery.record, f"the record from {delivery.host}")
        asked = (order.cell, order.check, order.tier)
        if (record.cell, record.check, record.tier) != asked:
            raise RecordError(f"{delivery.host} sent {record.id} when asked for {order.id}")
        if unsent := sorted(record.raw.keys() - delivery.raw.keys()):
            raise RecordError(
                f"{delivery.host} sent a record of {record.id} without its raw {', '.join(unsent)}: run the "
                "check again"
            )
        raw = {name: self.run.keep(*delivery.raw[name]) for name in record.raw}
        record = record.model_copy(update={"raw": raw})
        if record.measurement is None:
            return record
        if (here := delivery.merged) is not None:
            changes = {"measurement": here.measurement, "raw": {**raw, **here.raw}}
            record = record.model_copy(update=changes)
        elif problems := measurement_problems(record, self.run):
            raise InvalidMeasurement(
                refusal(f"{delivery.host} sent a record that does not hold up", problems)
            )
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
