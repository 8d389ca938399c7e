"""How many clips are right, joined by clip id, and where a device and PyTorch disagree.

A clip without a usable answer is wrong *and* listed; ties count against the model, so that an
output that says nothing scores nothing.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.clips import ClipSet, Predictions
from harness.errors import ClipError
from harness.measure.measurement import Measurement
from harness.measure.scores import NO_CLASS, best_classes, crop_mean, is_constant, label_ranks
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
    """How predictions meet the manifest: the clips that do not, by id."""

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
        reference_join: how the reference predictions meet the manifest.
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
    two are equal the clips add up to the count of ``top1``.
    """

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


@dataclasses.dataclass(frozen=True)
class _Answers:
    """Of each clip of the manifest: rank of its label (0: no answer) and the best class."""

    ranks: "npt.NDArray[np.int64]"
    best: "npt.NDArray[np.int64]"
    join: Join


def accuracy_measurement(
    preds: Predictions, clip_set: ClipSet, reference: Predictions | None = None
) -> AccuracyMeasurement:
    """Score ``preds`` against the labels and, where given, against PyTorch on the same clips.

    Raises:
        ClipError: a label of the manifest is not one of its classes.
    """
    _check_labels(clip_set)
    answers = _answers(preds, clip_set)
    paired = (
        None if reference is None else _paired(answers, _answers(reference, clip_set), clip_set)
    )
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
    )


def _check_labels(clip_set: ClipSet) -> None:
    for clip in clip_set.clips:
        if not 0 <= clip.label < len(clip_set.class_names):
            raise ClipError(
                f"clip {clip.id} of {clip_set.name} has label {clip.label}, but the classes are "
                f"0 to {len(clip_set.class_names) - 1}; correct the label list"
            )


def _answers(preds: Predictions, clip_set: ClipSet) -> _Answers:
    """Join predictions with the manifest by clip id; what does not meet is listed, never guessed."""
    join = _join(preds, clip_set)
    ranks = np.zeros(len(clip_set.clips), dtype=np.int64)
    best = np.full(len(clip_set.clips), NO_CLASS, dtype=np.int64)
    refused = {*join.duplicate_ids, *preds.unreadable}
    row_of = {name: row for row, name in enumerate(preds.clip_ids) if name not in refused}
    places = [place for place, clip in enumerate(clip_set.clips) if clip.id in row_of]
    if join.wrong_shape is not None or not places:
        return _Answers(ranks, best, join)
    rows = [row_of[clip_set.clips[place].id] for place in places]
    means = crop_mean(preds.scores[rows])
    ranks[places] = label_ranks(means, [clip_set.clips[place].label for place in places])
    best[places] = best_classes(means)
    nonfinite = tuple(
        clip_set.clips[place].id
        for place, mean in zip(places, means, strict=True)
        if not np.isfinite(mean).all()
    )
    return _Answers(ranks, best, join.model_copy(update={"nonfinite_ids": nonfinite}))


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


def _confusion(answers: _Answers, clip_set: ClipSet) -> tuple[tuple[int, int, int], ...]:
    pairs = collections.Counter(
        (clip.label, int(best)) for clip, best in zip(clip_set.clips, answers.best, strict=True)
    )
    return tuple((label, best, count) for (label, best), count in sorted(pairs.items()))


def _paired(device: _Answers, reference: _Answers, clip_set: ClipSet) -> PairedComparison:
    """Compare clip by clip, leaving out what the reference could not read: it shows nothing."""
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
    device: _Answers, reference: _Answers, clip_set: ClipSet, kept: Sequence[int]
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
