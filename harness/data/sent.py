"""Crops on their way to another host: decoded where the clips are, checked and kept for a moment where they arrive."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping

import numpy as np

from harness.clips import Clip, ClipSet
from harness.data.loading import crops_from_clip
from harness.data.store import CropStore, record_shape
from harness.data.streaming import stored_samples
from harness.data.transforms import Crops
from harness.errors import ArtifactError, ClipError, InvalidMeasurement
from harness.host.progress import Counter
from harness.spec import InputProtocol


@dataclasses.dataclass(frozen=True)
class SentCrops:
    """Clips that a host has decoded for another one.

    Attributes:
        host: its name.
        clip_set: the clips.
        subjects: digests of what decides their crops, by name.
        clip_ids: those that it could read.
        crops: uint8 [clip, crop, frame, height, width, RGB], in that order.
        unreadable: the others, with reasons.
        digest: sha256 of all that decides a result.
    """

    host: str
    clip_set: ClipSet
    subjects: Mapping[str, str]
    clip_ids: tuple[str, ...]
    crops: Crops
    unreadable: Mapping[str, str]
    digest: str = ""

    def sealed(self) -> "SentCrops":
        """Return the same with its digest."""
        return dataclasses.replace(self, digest=self._digest())

    def refuse_others(self, protocol: InputProtocol) -> None:
        """Refuse what is not, as it was sent, the crops of the clips.

        Raises:
            InvalidMeasurement: it is something else.
        """
        named = sorted([*self.clip_ids, *self.unreadable])
        shape = len(self.clip_ids), *record_shape(protocol)
        problem = ""
        if named != sorted(clip.id for clip in self.clip_set.clips):
            problem = "they are of other clips than they say"
        elif self.crops.shape != shape or self.crops.dtype != np.uint8:
            found = f"{self.crops.dtype} of {list(self.crops.shape)}"
            problem = f"they are {found}, the model takes uint8 of {list(shape)}"
        elif self._digest() != self.digest:
            problem = "they changed on their way"
        if problem:
            raise InvalidMeasurement(
                f"{self.host} sent crops that cannot be used: {problem}; correct that host or take it out of "
                "the farm, and run the check again"
            )

    @contextlib.contextmanager
    def unpacked(self, store: CropStore) -> Iterator[None]:
        """Have them lie in a store during the block, in which this host decodes nothing itself.

        Raises:
            ArtifactError: the disk cannot take them, or another process has them there.
        """
        with contextlib.ExitStack() as stack:
            try:
                is_mine = stack.enter_context(store.filling())
            except OSError as error:
                raise ArtifactError(f"cannot keep crops in {store.folder}: {error}") from error
            if not is_mine:
                raise ArtifactError(f"another process runs the same clips in {store.folder}")
            stack.callback(shutil.rmtree, store.folder, ignore_errors=True)
            clip_of = {clip.id: clip for clip in self.clip_set.clips}
            for name, crops in zip(self.clip_ids, self.crops, strict=True):
                store.commit(clip_of[name], store.place(clip_of[name]).write(crops))
            for name, reason in self.unreadable.items():
                store.commit(clip_of[name], "", reason)
            # The lock stays held: whoever reads the store follows, and decodes no clip.
            yield

    def _digest(self) -> str:
        found = hashlib.sha256(json.dumps([self.clip_ids, dict(self.unreadable)]).encode())
        found.update(np.ascontiguousarray(self.crops).data)
        return found.hexdigest()


def crops_to_send(
    store: CropStore,
    clip_set: ClipSet,
    host: str,
    subjects: Mapping[str, str],
    progress: Counter = lambda done: None,
) -> SentCrops:
    """Decode clips into a store, as far as they are not there, and return their crops.

    Args:
        store: of the clip set that the clips belong to.
        clip_set: the clips wanted.
        host: name of this one.
        subjects: digests of what decides the crops, by name.
        progress: called with the number of finished clips.

    Raises:
        DecodeError: a process that decodes clips died.
        ArtifactError: the store cannot be written.
    """
    clips = clip_set.clips
    missing = [clip for clip in clips if store.lacks(clip)]
    for done, _ in enumerate(stored_samples(store, missing), len(clips) - len(missing) + 1):
        progress(done)
    crops = np.empty((len(clips), *record_shape(store.protocol)), np.uint8)
    names, unreadable = list[str](), dict[str, str]()
    for clip in clips:
        try:
            crops[len(names)] = _crops(store, clip)
            names.append(clip.id)
        except ClipError as error:
            unreadable[clip.id] = str(error)
    found = crops[: len(names)]
    return SentCrops(host, clip_set, subjects, tuple(names), found, unreadable).sealed()


def _crops(store: CropStore, clip: Clip) -> Crops:
    entry, crops = store.entry(clip), store.read(clip)
    if entry is not None and entry.unreadable:
        raise ClipError(entry.unreadable)
    # A store that cannot be written to keeps nothing.
    return crops_from_clip(clip, store.protocol) if crops is None else crops
