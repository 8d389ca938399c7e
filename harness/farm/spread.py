"""The accuracy of a cell, spread over every chip of the hosts that are alike."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from harness.errors import HarnessError, RunError
from harness.farm import host, reader
from harness.farm.calls import Placement, Step
from harness.farm.cluster import Cluster
from harness.farm.gathering import Gathering
from harness.farm.kept import KeptParts
from harness.farm.merge import merge
from harness.farm.orders import Delivery, Order, Part, Shard, Survey, What
from harness.host.child_process import run_in_child
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
        with self.kept(survey) as kept:
            gathering = Gathering(title, survey, kept, self.progress)
            self._gather(gathering)
            title, parts = f"{title}: comparison", (kept, survey, gathering.shards)
            beat = self.progress.heartbeat(title)
            found, _ = run_in_child(merge, self.run, *parts, heartbeat=beat, failure=RunError)
            about = found.measurement, gathering.notes(), listing
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

    def _gather(self, gathering: Gathering) -> None:
        """Have the shards predicted that are not kept, by PyTorch and chips at the same time.

        While another cell has PyTorch run on the same clips, this one waits for that, but not with its chips.
        """
        before = len(self.cluster.stints)
        with gathering.reference_turn() as is_ours:
            shards = gathering.shards if is_ours else gathering.shards_of("predictions")
            self._predict(gathering, shards)
        if not is_ours:
            with gathering.reference_wait():
                self._predict(gathering, gathering.shards_of("reference"))
        self.cluster.stints.extend(self._unseen(gathering, self.cluster.stints[before:]))

    def _predict(self, gathering: Gathering, shards: Sequence[Shard]) -> None:
        groups = itertools.groupby(gathering.missing(shards), lambda shard: shard.what)
        steps = [self._step(gathering, what, list(those)) for what, those in groups]
        self.cluster.run(*steps)

    def _step(self, gathering: Gathering, what: What, shards: Sequence[Shard]) -> Step:
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
            gathering.title_of(what),
            names,
            first,
            lambda number, part: gathering.take(shards[number], part),
        )

    def _crops_title(self, what: What) -> str:
        return f"{self.order.id}: crops for {what}"

    def _unseen(self, gathering: Gathering, seen: Sequence[Stint]) -> Iterator[Stint]:
        """Yield a moment for each host of a part that was not seen at work.

        An earlier run or another cell has left the part, or Ray had its crops made again: its hosts have a share in the record.
        """
        known, now_s = {(stint.host, stint.what, stint.part) for stint in seen}, time.time()
        for shard, part in gathering.parts().items():
            for one, what in (
                (part.host, gathering.title_of(shard.what)),
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
