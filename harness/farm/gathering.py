"""The parts of an accuracy check as they arrive: those that lie kept, and those that hosts send."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from harness.errors import InvalidMeasurement, first_line
from harness.farm.kept import KeptParts
from harness.farm.orders import Part, Shard, Survey, What
from harness.host.locks import wait_notice
from harness.host.progress import Progress


class Gathering:
    """What is there of one accuracy check; the predictions themselves stay in files.

    Args:
        title: of the check.
        survey: what every host must have run.
        kept: keeps the parts, and may have some of them.
        progress: shows how many clips are done.
    """

    def __init__(self, title: str, survey: Survey, kept: KeptParts, progress: Progress) -> None:
        self.title, self.shards = title, survey.shards()
        self._survey, self._kept, self._progress = survey, kept, progress
        self._parts = dict[Shard, Part]()
        self._turn = contextlib.ExitStack()
        self._counters = {
            shard.what: progress.counter(self.title_of(shard.what), survey.clip_count)
            for shard in self.shards
        }

    def title_of(self, what: What) -> str:
        """Return the title of some of the shards."""
        return f"{self.title}: {what}"

    def shards_of(self, what: What) -> list[Shard]:
        """Return the shards of the chips, or of PyTorch."""
        return [shard for shard in self.shards if shard.what == what]

    @contextlib.contextmanager
    def reference_turn(self) -> Iterator[bool]:
        """Hold the right to have PyTorch run on these clips, if no other check holds it; yield whether.

        It ends with the last of PyTorch's parts, whatever the block goes on with.
        """
        with self._turn:
            yield self._turn.enter_context(self._kept.reference_turn())

    def reference_wait(self) -> AbstractContextManager[None]:
        """Hold the same right, and wait for it."""
        notice = wait_notice(self.title_of("reference"), self._progress.say)
        return self._kept.reference_wait(notice)

    def missing(self, wanted: Sequence[Shard]) -> list[Shard]:
        """Take what is kept of some shards, and return the others."""
        for shard in wanted:
            if (part := self._kept.part(shard)) is not None:
                self._add(shard, part)
        return [shard for shard in wanted if shard not in self._parts]

    def take(self, shard: Shard, part: Part) -> None:
        """Keep what a host has sent.

        Raises:
            InvalidMeasurement: it is damaged, or the host ran something other than the others.
            RunError: it cannot be written.
        """
        _refuse_unusable(part, self._survey, shard.what, self.title_of(shard.what))
        self._kept.keep(shard, part)
        self._add(shard, part)

    def parts(self) -> Mapping[Shard, Part]:
        """Return the parts in the order of the shards, without their predictions."""
        return {shard: self._parts[shard] for shard in self.shards}

    def notes(self) -> tuple[str, ...]:
        """Return what hosts say of their chips, and which host ran how many shards."""
        parts = self.parts()
        notes = [f"{part.host}: {note}" for part in parts.values() for note in part.notes]
        for what, words in (("predictions", "predictions"), ("reference", "PyTorch's predictions")):
            counts = Counter(part.host for shard, part in parts.items() if shard.what == what)
            listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            notes.append(f"{words}, shards by host: {listed}")
        return tuple(dict.fromkeys(notes))

    def _add(self, shard: Shard, part: Part) -> None:
        self._parts[shard] = dataclasses.replace(part, predictions=b"")
        there = sum(one.what == shard.what for one in self._parts)
        self._counters[shard.what](there * self._survey.clip_count // shard.count)
        if self._parts.keys() >= set(self.shards_of("reference")):
            self._turn.close()


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
