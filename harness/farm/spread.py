"""The accuracy of a cell, spread over every chip of the hosts that are alike."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.errors import InvalidMeasurement
from harness.farm import host
from harness.farm.calls import PYTORCH, Placement
from harness.farm.cluster import Cluster
from harness.farm.kept import KeptParts
from harness.farm.orders import Delivery, Order, Part, Survey
from harness.host.progress import Progress
from harness.record.npz import predictions_from_npz


@dataclasses.dataclass(frozen=True)
class Spread:
    """One accuracy check: its order, the models that it runs on, and where it may run.

    ``kept`` returns the parts that an earlier run has left.
    """

    cluster: Cluster
    order: Order
    models: Any
    at: Placement
    progress: Progress
    kept: Callable[[Survey], KeptParts]

    def delivery(self) -> Delivery:
        """Have the shards predicted, by chips and by PyTorch, and compared on one host.

        Raises:
            HarnessError: it cannot be done, or the hosts do not agree on what they ran.
        """
        anywhere = dataclasses.replace(self.at, resources={})
        pytorch = dataclasses.replace(self.at, resources={PYTORCH: 1.0})
        call, title = self.cluster.call, self.order.id
        survey = call(*(host.survey_accuracy, self.order, self.models), at=anywhere, title=title)
        reference = self._parts(host.refer, "reference", pytorch, survey)
        parts = self._parts(host.predict, "predictions", self.at, survey)
        arguments = host.compare, self.order, self.models, parts, reference
        delivery = call(*arguments, at=anywhere, title=f"{title}: comparison")
        for what, sent in (("predictions", parts), ("reference", reference)):
            _refuse_changed(delivery, what, sent)
        self.kept(survey).drop()
        return delivery

    def _parts(
        self, function: Callable[..., Part], what: str, at: Placement, survey: Survey
    ) -> list[Part]:
        title, count = f"{self.order.id}: {what}", survey.shard_count
        counter, kept = self.progress.counter(title, survey.clip_count), self.kept(survey)
        parts = kept.parts(what)
        left = [number for number in range(count) if number not in parts]

        def on_part(index: int, part: Part) -> None:
            parts[left[index]] = part
            kept.keep(what, left[index], part)
            counter(len(parts) * survey.clip_count // count)

        calls = [(self.order, self.models, number, count) for number in left]
        self.cluster.map(function, calls, at, title, on_part)
        ordered = [parts[number] for number in range(count)]
        _refuse_a_mix(ordered, survey, title)
        return ordered


def _refuse_a_mix(parts: Sequence[Part], survey: Survey, title: str) -> None:
    for part in parts:
        differing = [
            name for name, digest in survey.subjects.items() if part.subjects.get(name) != digest
        ]
        if differing:
            raise InvalidMeasurement(
                f"{title}: {part.host} differs from the first host in its {', '.join(differing)}, and a "
                "cell is never a mix: empty the cache of one of them with harness cache prune --max-gb 0"
            )


def _refuse_changed(delivery: Delivery, what: str, parts: Sequence[Part]) -> None:
    """Refuse merged predictions that are not, row for row, those of the parts."""
    if what in delivery.raw and not _is_merged(delivery.raw[what][0], parts):
        raise InvalidMeasurement(
            f"{delivery.host} merged {what} that the hosts did not send: remove it from the farm"
        )


def _is_merged(npz: bytes, parts: Sequence[Part]) -> bool:
    merged = predictions_from_npz(io.BytesIO(npz))
    row_of = {name: row for row, name in enumerate(merged.clip_ids)}
    seen, unreadable = np.zeros(len(merged.clip_ids), int), dict[str, str]()
    for part in parts:
        preds = predictions_from_npz(io.BytesIO(part.predictions))
        rows = [row_of.get(name, -1) for name in preds.clip_ids]
        if -1 in rows or merged.scores[rows].tobytes() != preds.scores.tobytes():
            return False
        seen[rows] += 1
        unreadable |= preds.unreadable
    return bool((seen == 1).all()) and unreadable == merged.unreadable
