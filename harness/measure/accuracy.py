"""How many clips are right, joined by clip id, and where a device and PyTorch disagree.

A clip without a usable answer counts as wrong and is listed. A tie counts as wrong too, so that an
output that says nothing scores nothing.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.clips import ClipSet, Predictions
from harness.errors import ClipError
from harness.measure.every_clip import EveryClip, compare_every_clip
from harness.measure.measurement import Measurement
from harness.measure.scores import (
    CHUNK_CLIPS,
    NO_CLASS,
    best_classes,
    crop_mean,
    is_constant,
    label_ranks,
)
from harness.measure.statistics import (
    CONFIDENCE,
    Interval,
    mcnemar_midp,
    minimum_detectable_loss,
    tango_bounds,
    wilson_interval,
)

if TYPE_CHECKING:
    import numpy.typing as npt


class ClipCount(Measurement):
    """``k`` of ``n`` clips are right; ``interval`` is the two-sided 95 % Wilson interval."""

    k: int
    n: int
    interval: Interval

    @property
    def share(self) -> float | None:
        """Share of clips that are right; None without clips."""
        return self.k / self.n if self.n else None


class Join(Measurement):
    """How predictions fit the manifest: the ids of the clips that do not."""

    missing_ids: tuple[str, ...] = ()
    extra_ids: tuple[str, ...] = ()
    duplicate_ids: tuple[str, ...] = ()
    nonfinite_ids: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = {}
    wrong_shape: str | None = None


class ClassFlip(Measurement):
    """A clip whose best class changed; -1 is a tie or no answer."""

    clip_id: str
    label: int
    reference_class: int
    device_class: int

    @property
    def is_discordant(self) -> bool:
        """Whether exactly one of the two is right."""
        return (self.reference_class == self.label) != (self.device_class == self.label)


class PairedComparison(Measurement):
    """Device against PyTorch on the clips that the reference could read.

    Attributes:
        n: clips compared.
        b: the reference is right and the device wrong.
        c: the device is right and the reference wrong.
        p_midp: two-sided mid-p value of McNemar's test; 1 without discordant clips.
        loss: (b - c) / n, positive where the device is worse.
        bounds: one-sided 95 % score bounds of the loss, after Tango.
        detectable_loss: loss of top-1 that n clips find with power 0.8 at this discordance.
        reference_top1: clips the reference has right, of n.
        reference_join: how the reference predictions fit the manifest.
        flips: clips whose best class changed, right or wrong.
    """

    n: int
    b: int
    c: int
    p_midp: float
    loss: float
    bounds: Interval
    detectable_loss: float
    reference_top1: int
    reference_join: Join
    flips: tuple[ClassFlip, ...]


class AccuracyMeasurement(Measurement):
    """The score of one device on one clip set.

    ``confusion`` lists (label, best class, clips), best class -1 for a tie or no answer; where the
    two are equal the clips add up to the count of ``top1``. ``every_clip`` is None without a
    reference, and in runs of suites that did not measure it yet.
    """

    kind: Literal["accuracy"] = "accuracy"
    clip_set: str
    clip_set_digest: str
    is_whole: bool
    clip_count: int
    class_count: int
    top1: ClipCount
    top5: ClipCount
    join: Join
    is_constant: bool
    confusion: tuple[tuple[int, int, int], ...]
    paired: PairedComparison | None = None
    every_clip: EveryClip | None = None


@dataclasses.dataclass(frozen=True)
class Answers:
    """Predictions joined with a manifest.

    Of each clip of the manifest: row (-1: none), rank of its label (0: no answer), best class.
    """

    preds: Predictions
    rows: "npt.NDArray[np.int64]"
    ranks: "npt.NDArray[np.int64]"
    best: "npt.NDArray[np.int64]"
    join: Join


def accuracy_measurement(
    preds: Predictions,
    clip_set: ClipSet,
    reference: Predictions | None = None,
    lowest_score: float = -np.inf,
) -> AccuracyMeasurement:
    """Score ``preds`` against the labels and, where given, against PyTorch on the same clips.

    ``lowest_score`` is the lowest that the device can tell.

    Raises:
        ClipError: a label of the manifest is not one of its classes.
    """
    expected = None if reference is None else joined(reference, clip_set)
    return measured_beside(expected, preds, clip_set, lowest_score)


def measured_beside(
    expected: Answers | None,
    preds: Predictions,
    clip_set: ClipSet,
    lowest_score: float = -np.inf,
) -> AccuracyMeasurement:
    """Score ``preds`` as ``accuracy_measurement`` does, beside what PyTorch says, joined before."""
    answers = joined(preds, clip_set)
    paired, every_clip = None, None
    if expected is not None:
        paired = _paired(answers, expected, clip_set)
        answered = (answers.ranks > 0) & (expected.ranks > 0)
        rows = np.stack([answers.rows[answered], expected.rows[answered]])
        every_clip = compare_every_clip(preds, expected.preds, rows, lowest_score)
    return AccuracyMeasurement(
        clip_set=clip_set.name,
        clip_set_digest=clip_set.digest,
        is_whole=clip_set.is_whole,
        clip_count=len(clip_set.clips),
        class_count=len(clip_set.class_names),
        top1=_count(answers.ranks, 1),
        top5=_count(answers.ranks, 5),
        join=answers.join,
        is_constant=answers.join.wrong_shape is None and is_constant(preds.scores),
        confusion=_confusion(answers, clip_set),
        paired=paired,
        every_clip=every_clip,
    )


def _check_labels(clip_set: ClipSet) -> None:
    for clip in clip_set.clips:
        if not 0 <= clip.label < len(clip_set.class_names):
            raise ClipError(
                f"clip {clip.id} of {clip_set.name} has label {clip.label}, but the classes are "
                f"0 to {len(clip_set.class_names) - 1}; correct the label list"
            )


def joined(preds: Predictions, clip_set: ClipSet) -> Answers:
    """Join predictions with the manifest by clip id; what does not fit is listed, never guessed.

    Raises:
        ClipError: a label of the manifest is not one of its classes.
    """
    _check_labels(clip_set)
    join, count = _join(preds, clip_set), len(clip_set.clips)
    ranks, rows_of_all = np.zeros(count, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    best = np.full(count, NO_CLASS, dtype=np.int64)
    refused = {*join.duplicate_ids, *preds.unreadable}
    row_of = {name: row for row, name in enumerate(preds.clip_ids) if name not in refused}
    places = [place for place, clip in enumerate(clip_set.clips) if clip.id in row_of]
    if join.wrong_shape is not None or not places:
        return Answers(preds, rows_of_all, ranks, best, join)
    rows_of_all[places] = [row_of[clip_set.clips[place].id] for place in places]
    labels = np.array([clip.label for clip in clip_set.clips])
    for start in range(0, len(places), CHUNK_CLIPS):
        part = places[start : start + CHUNK_CLIPS]
        means = crop_mean(preds.scores[rows_of_all[part]], preds.averaging)
        ranks[part], best[part] = label_ranks(means, labels[part]), best_classes(means)
    nonfinite = tuple(clip_set.clips[place].id for place in places if not ranks[place])
    join = join.model_copy(update={"nonfinite_ids": nonfinite})
    return Answers(preds, rows_of_all, ranks, best, join)


def _join(preds: Predictions, clip_set: ClipSet) -> Join:
    wanted = [clip.id for clip in clip_set.clips]
    answered = [*preds.clip_ids, *preds.unreadable]
    repeated, known = {*_repeated(wanted), *_repeated(answered)}, set(answered)
    return Join(
        missing_ids=tuple(name for name in wanted if name not in known),
        extra_ids=tuple(sorted(known - set(wanted))),
        duplicate_ids=tuple(sorted(repeated)),
        unreadable=dict(sorted(preds.unreadable.items())),
        wrong_shape=_wrong_shape(preds, len(clip_set.class_names)),
    )


def _repeated(names: Sequence[str]) -> list[str]:
    if len(set(names)) == len(names):
        return []
    return [name for name, count in collections.Counter(names).items() if count > 1]


def _wrong_shape(preds: Predictions, class_count: int) -> str | None:
    shape = preds.scores.shape
    if not preds.clip_ids:
        return None
    if len(shape) == 3 and shape[0] == len(preds.clip_ids) and shape[2] == class_count and shape[1]:
        return None
    return f"scores {shape} for {len(preds.clip_ids)} clips and {class_count} classes"


def _count(ranks: "npt.NDArray[np.int64]", places: int) -> ClipCount:
    k = int(((ranks >= 1) & (ranks <= places)).sum())
    return ClipCount(k=k, n=len(ranks), interval=wilson_interval(k, len(ranks)))


def _confusion(answers: Answers, clip_set: ClipSet) -> tuple[tuple[int, int, int], ...]:
    labels = [clip.label for clip in clip_set.clips]
    pairs = collections.Counter(zip(labels, answers.best.tolist(), strict=True))
    return tuple((label, best, count) for (label, best), count in sorted(pairs.items()))


def _paired(device: Answers, reference: Answers, clip_set: ClipSet) -> PairedComparison:
    """Compare right and wrong clip by clip, without those that the reference could not read."""
    unread = reference.join.unreadable
    kept = [place for place, clip in enumerate(clip_set.clips) if clip.id not in unread]
    ours, theirs = device.ranks[kept] == 1, reference.ranks[kept] == 1
    n, b, c = len(kept), int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    return PairedComparison(
        n=n,
        b=b,
        c=c,
        p_midp=mcnemar_midp(b, c),
        loss=(b - c) / n if n else 0.0,
        bounds=tango_bounds(b, c, n, CONFIDENCE),
        detectable_loss=minimum_detectable_loss(n, b + c) if n else 1.0,
        reference_top1=int(theirs.sum()),
        reference_join=reference.join,
        flips=_class_flips(device, reference, clip_set, kept),
    )


def _class_flips(
    device: Answers, reference: Answers, clip_set: ClipSet, kept: Sequence[int]
) -> tuple[ClassFlip, ...]:
    return tuple(
        ClassFlip(
            clip_id=clip_set.clips[place].id,
            label=clip_set.clips[place].label,
            reference_class=int(reference.best[place]),
            device_class=int(device.best[place]),
        )
        for place in kept
        if reference.best[place] != device.best[place]
    )
