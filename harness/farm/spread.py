"""The accuracy of a cell, spread over every chip of the hosts that are alike."""

import contextlib
import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from harness.errors import HarnessError, InvalidMeasurement, RunError, first_line
from harness.farm import host, reader
from harness.farm.calls import Placement, Step
from harness.farm.cluster import Cluster
from harness.farm.kept import KeptParts
from harness.farm.merge import merge
from harness.farm.orders import Delivery, Order, Part, Shard, Survey, What
from harness.host.child_process import run_in_child
from harness.host.locks import wait_notice
from harness.host.progress import Progress
from harness.measure.strips import Strips
from harness.record.record import RunDirectory
from harness.record.stints import Stint

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Spread:
    """One accuracy check: its order, the models that it runs on, where it may run, and the run that it is for.

    ``torch`` are the hosts of ``at`` on which PyTorch rounds alike. ``kept`` yields the parts that an earlier
    run or another cell has left. ``readers`` decode the clips; None: the hosts of ``at`` do so themselves.
    """

    cluster: Cluster
    order: Order
    models: Any
    at: Placement
    torch: Placement
    run: RunDirectory
    progress: Progress
    kept: Callable[[Survey], AbstractContextManager[KeptParts]]
    readers: Placement | None = None

    def delivery(self) -> Delivery:
        """Have the shards predicted by chips and by PyTorch, compare both here, and have a host make the record.

        Raises:
            HarnessError: it cannot be done, or the hosts do not agree on what they ran.
        """
        title, given, listing = self.order.id, (self.order, self.models), self._listing()
        survey = self._call(host.survey_accuracy, *given, listing, title=title)
        shards = survey.shards()
        with self.kept(survey) as kept:
            notes, title = self._predicted(survey, kept, shards), f"{title}: comparison"
            beat = self.progress.heartbeat(title)
            found, _ = run_in_child(
                *(merge, self.run, kept, survey, shards), heartbeat=beat, failure=RunError
            )
            about = found.measurement, notes, listing
            delivery = self._call(host.conclude, *given, *about, title=title)
        raw = {**found.raw, **self._strips(found.strips)}
        return dataclasses.replace(delivery, merged=dataclasses.replace(found, raw=raw))

    def _call(self, function: Callable[..., T], *args: Any, title: str) -> T:
        """Have any of the hosts do what needs no chip."""
        at = dataclasses.replace(self.at, resources={})
        return self.cluster.call(function, *args, at=at, title=title)

    def _listing(self) -> Any:
        """Return the clips as a host lists them that can read them; None where the chips' hosts can."""
        if self.readers is None:
            return None
        title = f"{self.order.id}: clips"
        return self.cluster.held(reader.list_clips, self.order, at=self.readers, title=title)

    def _predicted(
        self, survey: Survey, kept: KeptParts, shards: Sequence[Shard]
    ) -> tuple[str, ...]:
        """Have the shards predicted that are not kept, by PyTorch and chips at the same time; return notes.

        While another cell has PyTorch run on the same clips, this one waits for that, but not with its chips.
        """
        parts = dict[Shard, Part]()
        of_torch = [shard for shard in shards if shard.what == "reference"]
        counters = {
            shard.what: self.progress.counter(self._title(shard.what), survey.clip_count)
            for shard in shards
        }

        def have(shard: Shard, part: Part) -> None:
            parts[shard] = _head(part)
            count = sum(one.what == shard.what for one in parts)
            counters[shard.what](count * survey.clip_count // shard.count)
            if parts.keys() >= set(of_torch):
                turn.close()

        def on_part(shard: Shard, part: Part) -> None:
            _refuse_unusable(part, survey, shard.what, self._title(shard.what))
            kept.keep(shard, part)
            have(shard, part)

        def run(wanted: Sequence[Shard]) -> None:
            for shard in wanted:
                if (part := kept.part(shard)) is not None:
                    have(shard, part)
            left = [shard for shard in wanted if shard not in parts]
            steps = itertools.groupby(left, lambda shard: shard.what)
            self.cluster.run(*(self._step(what, list(those), on_part) for what, those in steps))

        before, notice = len(self.cluster.stints), self._title("reference")
        with contextlib.ExitStack() as turn:
            is_ours = turn.enter_context(kept.reference_turn())
            run(shards if is_ours else [shard for shard in shards if shard not in of_torch])
        if not is_ours:
            turn.enter_context(kept.reference_wait(wait_notice(notice, self.progress.say)))
            with turn:
                run(of_torch)
        ordered = {shard: parts[shard] for shard in shards}
        self.cluster.stints.extend(self._unseen(ordered, self.cluster.stints[before:]))
        return _notes(ordered)

    def _step(
        self, what: What, shards: Sequence[Shard], on_part: Callable[[Shard, Part], object]
    ) -> Step:
        """Return the calls for shards; if the hosts of the chips cannot read the clips, others decode first."""
        function: Callable[..., Part] = host.predict
        at, models = self.at, tuple[Any, ...]((self.models,))
        if what == "reference":
            function, at, models = host.refer, self.torch, ()
        names, first = [str(shard) for shard in shards], None
        if self.readers is not None:
            decoded = reader.decode, [(self.order, shard) for shard in shards], self.readers
            first = Step(*decoded, self._crops_title(what), names)
        return Step(
            function,
            [(self.order, *models, shard) for shard in shards],
            at,
            self._title(what),
            names,
            first,
            lambda number, part: on_part(shards[number], part),
        )

    def _title(self, what: What) -> str:
        return f"{self.order.id}: {what}"

    def _crops_title(self, what: What) -> str:
        return f"{self.order.id}: crops for {what}"

    def _unseen(self, parts: Mapping[Shard, Part], seen: Sequence[Stint]) -> Iterator[Stint]:
        """Yield a moment for each host of a part that was not seen at work.

        An earlier run or another cell has left the part, or Ray had its crops made again: its hosts have a share in the record.
        """
        known, now_s = {(stint.host, stint.what, stint.part) for stint in seen}, time.time()
        for shard, part in parts.items():
            for one, what in (
                (part.host, self._title(shard.what)),
                (part.decoder, self._crops_title(shard.what)),
            ):
                if one and (one, what, str(shard)) not in known:
                    yield Stint(host=one, what=what, start_s=now_s, end_s=now_s, part=str(shard))

    def _strips(self, strips: Strips) -> dict[str, str]:
        """Keep what is known of the clips that flipped, with frames from a host that can read them."""
        if not strips.strips:
            return {}
        title = f"{self.order.id}: frames"
        try:
            at = self.readers or dataclasses.replace(self.at, resources={})
            strips = self.cluster.call(reader.add_frames, self.order, strips, at=at, title=title)
        except HarnessError as error:
            why = {"missing": str(error)}
            bare = tuple(strip.model_copy(update=why) for strip in strips.strips)
            strips = strips.model_copy(update={"strips": bare})
        return {"strips": self.run.keep(strips.model_dump_json().encode(), ".json")}


def _head(part: Part) -> Part:
    """Return a part without its predictions."""
    return dataclasses.replace(part, predictions=b"")


def _notes(parts: Mapping[Shard, Part]) -> tuple[str, ...]:
    """Return what hosts say of their chips, and which host ran how many shards."""
    notes = [f"{part.host}: {note}" for part in parts.values() for note in part.notes]
    for what, words in (("predictions", "predictions"), ("reference", "PyTorch's predictions")):
        counts = Counter(part.host for shard, part in parts.items() if shard.what == what)
        listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        notes.append(f"{words}, shards by host: {listed}")
    return tuple(dict.fromkeys(notes))


def _refuse_unusable(part: Part, survey: Survey, what: What, title: str) -> None:
    """Refuse a part that is damaged, or whose host ran something other than the others."""
    try:
        part.unpacked()
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidMeasurement(
            f"{title}: {part.host} sent predictions that cannot be used: {first_line(error)}; correct that "
            "host or take it out of the farm, and run the check again"
        ) from error
    if survey.sent_bytes and not part.decoder:
        raise InvalidMeasurement(
            f"{title}: {part.host} ran crops of a host that does not say its name: take that one out of the farm"
        )
    subjects = survey.subjects_of(what).items()
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
