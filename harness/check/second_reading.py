"""A few clips of a run, read by mmaction2 as well, since a user's own clips have no known answers."""

import itertools
import random
from collections.abc import Sequence

from harness.build.workbench import Workbench
from harness.clips import Clip, Sample
from harness.data.datasets import motion8
from harness.data.loading import sample_from_clip
from harness.errors import InvalidMeasurement

SECOND_READINGS = 3


def second_reading(bench: Workbench, model: str, clips: Sequence[Clip], seed: str) -> str:
    """Have mmaction2 read a few clips, which ``seed`` chooses; return which they were and who read them.

    Clips that cannot be read are counted elsewhere.

    Raises:
        InvalidMeasurement: mmaction2 reads them differently.
    """
    if bench.clip_set(model).digest == motion8().digest:
        return ""
    protocol = bench.model(model).protocol
    order = random.Random(f"{seed} {model}").sample(clips, len(clips))
    readable = (clip for clip in order if isinstance(sample_from_clip(clip, protocol), Sample))
    chosen = tuple(itertools.islice(readable, SECOND_READINGS))
    if not chosen:
        return ""
    found = bench.sample_check(model, chosen)
    if found.problem is not None:
        raise InvalidMeasurement(found.problem)
    return found.text
