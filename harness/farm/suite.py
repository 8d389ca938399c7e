"""The driver's suite: checks are measured on hosts of the farm, and judged here.

A host's own verdict does not count: what it measured is computed again from the raw files that it
sent, and judged under the driver's contract.
"""

import collections
import dataclasses
import datetime
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.check.suite import outcome_from_error, stored_predictions
from harness.contract.thresholds import Thresholds
from harness.decide.blockers import with_blockers
from harness.decide.rejudge import verdict_again
from harness.device import DeviceState, Presence
from harness.errors import (
    DeviceAbsent,
    HarnessError,
    InvalidMeasurement,
    MissingInput,
    RecordError,
    SiteError,
    refusal,
)
from harness.farm import host
from harness.farm.cluster import Cluster, Placement, resource_of
from harness.farm.orders import Delivery, HostFacts, Order, Part, Survey
from harness.host.progress import Progress
from harness.host.suite_code import suite_digest
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
    cluster: Cluster
    hosts: Mapping[str, HostFacts]
    progress: Progress
    more_timing: tuple[int, float] = (0, 0.0)
    models: dict[Cell, Any] = dataclasses.field(default_factory=dict)

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

    def _delivery(self, order: Order) -> Delivery:
        at = placement(self.hosts, self.cluster.address, order.cell.device)
        models = self._models(order, dataclasses.replace(at, resources={}))
        if order.check == "accuracy":
            return self._accuracy(order, models, at)
        preds = None
        if order.check == "throughput":
            preds = stored_predictions(self.run, order.cell)
        return self.cluster.call(host.measure, order, models, preds, at=at, title=order.id)

    def _models(self, order: Order, at: Placement) -> Any:
        """Return the models of a cell, each built once in the farm; they stay there."""
        cell = order.cell
        if cell not in self.models:
            exporter = Placement((_exporter(self.hosts, cell.model),))
            title = f"{cell.id} export"
            onnx = self.cluster.held(host.export, order, at=exporter, title=title)
            first = Placement(at.hosts[:1])
            title = f"{cell.id} build"
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
            is_device_present=bool(_with_device(self.hosts, cell.device)),
            inputs_min=tier.inputs_for(cell),
            sessions_min=tier.timing_for(cell).sessions_min,
            started=started.isoformat(timespec="seconds"),
            seconds=0.0,
        )


def joined_hosts(cluster: Cluster) -> dict[str, HostFacts]:
    """Return the facts of every host of a farm, by the id that Ray has for it.

    Raises:
        SiteError: a host does not answer, or runs another suite than this one.
    """
    here, found, problems = suite_digest(), dict[str, HostFacts](), []
    for node, facts in cluster.describe().items():
        if isinstance(facts, str):
            problems.append(f"host {node}: {facts}")
        elif facts.suite.get("suite.files") != here:
            problems.append(
                f"{facts.name} runs the suite of commit {facts.suite.get('suite.commit')}, whose files "
                "differ from those here: install the same one there"
            )
        else:
            found[node] = facts
    if problems:
        raise SiteError(refusal(f"the farm at {cluster.address} cannot be used", problems))
    return found


def placement(hosts: Mapping[str, HostFacts], address: str, device: str) -> Placement:
    """Return where a cell of a device may run: the largest group of hosts that are alike.

    A cell is never a mix of two toolchains or of two kinds of processor: the group shares what shapes
    its device model and the rounding of its sums.

    Raises:
        DeviceAbsent: no host has the device.
    """
    groups: dict[Any, list[str]] = collections.defaultdict(list)
    for node, state in _with_device(hosts, device).items():
        groups[_kind(hosts[node], state)].append(node)
    if not groups:
        listed = ", ".join(sorted(facts.name for facts in hosts.values())) or "none"
        raise DeviceAbsent(
            f"no host of the farm at {address} has {device} (hosts: {listed}); `harness farm status` "
            "says what each has"
        )
    largest = max(groups.values(), key=lambda nodes: (_chips(hosts, nodes, device), sorted(nodes)))
    return Placement(tuple(sorted(largest)), {resource_of(device): 1.0})


def present_devices(hosts: Mapping[str, HostFacts]) -> set[str]:
    """Return the devices that any host has."""
    names = {name for facts in hosts.values() for name in facts.devices}
    return {name for name in names if _with_device(hosts, name)}


def _with_device(hosts: Mapping[str, HostFacts], device: str) -> dict[str, DeviceState]:
    states = {node: facts.devices.get(device) for node, facts in hosts.items()}
    return {
        node: state
        for node, state in states.items()
        if state is not None and state.presence is Presence.PRESENT and state.unit_ids
    }


def _kind(facts: HostFacts, state: DeviceState) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({**facts.machine, **state.lasting_facts}.items()))


def _exporter(hosts: Mapping[str, HostFacts], model: str) -> str:
    """Return the host on which every worker has a model exported: its lock lets it be done once."""
    able = [node for node, facts in hosts.items() if model in facts.weights]
    if not able:
        raise MissingInput(f"no host of the farm has usable weights of {model}")
    return min(able, key=lambda node: (hosts[node].weights[model].startswith("seed:"), node))


def _chips(hosts: Mapping[str, HostFacts], nodes: Sequence[str], device: str) -> int:
    return sum(len(hosts[node].devices[device].unit_ids) for node in nodes)


def _refuse_a_mix(parts: Sequence[Part], survey: Survey, title: str) -> None:
    for part in parts:
        differing = [
            name for name, digest in survey.subjects.items() if part.subjects[name] != digest
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
