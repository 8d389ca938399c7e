"""The accuracy of a cell, spread over every chip of the hosts that are alike."""

import contextlib
import dataclasses
import io
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from harness.errors import HarnessError, InvalidMeasurement
from harness.farm import host, reader
from harness.farm.calls import PYTORCH, Placement, Step
from harness.farm.cluster import Cluster
from harness.farm.kept import KeptParts
from harness.farm.orders import Delivery, Order, Part, Survey
from harness.host.progress import Progress
from harness.record.npz import predictions_from_npz
from harness.record.stints import Stint


@dataclasses.dataclass(frozen=True)
class Spread:
    """One accuracy check: its order, the models that it runs on, and where it may run.

    ``kept`` returns the parts that an earlier run has left. ``readers`` decode the clips; None: the hosts of
    ``at`` do so themselves.
    """

    cluster: Cluster
    order: Order
    models: Any
    at: Placement
    progress: Progress
    kept: Callable[[Survey], KeptParts]
    readers: Placement | None = None

    def delivery(self) -> Delivery:
        """Have the shards predicted, by chips and by PyTorch, and compared on one host.

        Raises:
            HarnessError: it cannot be done, or the hosts do not agree on what they ran.
        """
        anywhere = dataclasses.replace(self.at, resources={})
        pytorch = dataclasses.replace(self.at, resources={PYTORCH: 1.0})
        call, title = self.cluster.call, self.order.id
        listing = self._listing()
        given = self.order, self.models
        survey = call(host.survey_accuracy, *given, listing, at=anywhere, title=title)
        reference = self._parts(host.refer, "reference", pytorch, survey)
        parts = self._parts(host.predict, "predictions", self.at, survey)
        arguments = host.compare, *given, parts, reference, listing
        delivery = call(*arguments, at=anywhere, title=f"{title}: comparison")
        for what, sent in (("predictions", parts), ("reference", reference)):
            _refuse_changed(delivery, what, sent)
        self.kept(survey).drop()
        return self._with_frames(delivery)

    def _listing(self) -> Any:
        """Return the clips as a host lists them that can read them; None where the chips' hosts can."""
        if self.readers is None:
            return None
        title = f"{self.order.id}: clips"
        return self.cluster.held(reader.list_clips, self.order, at=self.readers, title=title)

    def _parts(
        self, function: Callable[..., Part], what: str, at: Placement, survey: Survey
    ) -> list[Part]:
        title, count = f"{self.order.id}: {what}", survey.shard_count
        counter, kept = self.progress.counter(title, survey.clip_count), self.kept(survey)
        parts, before = kept.parts(what), len(self.cluster.stints)
        left = [number for number in range(count) if number not in parts]

        def on_part(index: int, part: Part) -> None:
            _refuse_a_mix(part, survey, title)
            parts[left[index]] = part
            kept.keep(what, left[index], part)
            counter(len(parts) * survey.clip_count // count)

        calls = [(self.order, self.models, number, count) for number in left]
        names = [_name(number, count) for number in left]
        decoding = self._decoding(what, [(number, count) for number in left])
        self.cluster.run(Step(function, calls, at, title, names), on_part, decoding)
        ordered = [parts[number] for number in range(count)]
        self.cluster.stints.extend(_unseen(ordered, title, self.cluster.stints[before:]))
        return ordered

    def _decoding(self, what: str, shards: Sequence[tuple[int, int]]) -> Step | None:
        """Return the calls that decode shards on other hosts; None where the chips' hosts do."""
        if self.readers is None:
            return None
        calls = [(self.order, what, *shard) for shard in shards]
        names = [_name(*shard) for shard in shards]
        title = f"{self.order.id}: crops for {what}"
        return Step(reader.decode, calls, self.readers, title, names)

    def _with_frames(self, delivery: Delivery) -> Delivery:
        """Have a host that can read the clips add the frames of those that flipped."""
        if self.readers is None or "strips" not in delivery.raw:
            return delivery
        content, suffix = delivery.raw["strips"]
        # Without them, the page says why.
        with contextlib.suppress(HarnessError):
            title = f"{self.order.id}: frames"
            arguments = reader.add_frames, self.order, content
            content = self.cluster.call(*arguments, at=self.readers, title=title)
        return dataclasses.replace(delivery, raw={**delivery.raw, "strips": (content, suffix)})


def _name(number: int, count: int) -> str:
    return f"shard {number + 1} of {count}"


def _unseen(parts: Sequence[Part], title: str, seen: Sequence[Stint]) -> Iterator[Stint]:
    """Yield a moment for each host of a part that was not seen at work.

    An earlier run has left the part, or Ray had its crops made again: its hosts have a share in the record.
    """
    known, now_s = {(stint.host, stint.part) for stint in seen}, time.time()
    for number, part in enumerate(parts):
        name = _name(number, len(parts))
        for one in filter(None, (part.host, part.decoder)):
            if (one, name) not in known:
                yield Stint(host=one, what=title, start_s=now_s, end_s=now_s, part=name)


def _refuse_a_mix(part: Part, survey: Survey, title: str) -> None:
    if survey.sent_bytes and not part.decoder:
        raise InvalidMeasurement(
            f"{title}: {part.host} ran crops of a host that does not say its name: take that one out of the farm"
        )
    subjects = survey.subjects.items()
    differing = {name for name, digest in subjects if part.subjects.get(name) != digest}
    if not differing:
        return
    who, advice = part.host, "empty the cache of one of them with harness cache prune --max-gb 0"
    if part.decoder and differing <= {"clips", "decoding"}:
        who, advice = part.decoder, "give both the same clips and the same packages"
    raise InvalidMeasurement(
        f"{title}: {who} differs from the first host in its {', '.join(sorted(differing))}, and a cell is "
        f"never a mix: {advice}"
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
