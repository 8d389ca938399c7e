"""The verdict on accuracy: floors as counts of clips, the paired comparison, and every single clip."""

import math
from collections.abc import Sequence

from harness.judge.limits import AccuracyFloor, AccuracyLimits, EveryClipLimits, floor_count
from harness.judge.verdict import (
    Finding,
    Verdict,
    at_least,
    at_most,
    fail,
    inconclusive,
    invalid,
    listed,
    passed,
    undecided,
)
from harness.measure.accuracy import AccuracyMeasurement, ClipCount, Join, PairedComparison
from harness.measure.every_clip import EveryClip
from harness.measure.statistics import (
    chance_deficit,
    deciding_count,
    minimum_detectable_loss,
    tango_bounds,
)


def judge_accuracy(measurement: AccuracyMeasurement, limits: AccuracyLimits) -> Verdict:
    """Judge the counts against the floors, the loss against the reference, and every single clip.

    On the whole set the floors are exact, but for what chance takes from a reference that reaches
    the floor of top-1. A loss must be shown to be small to pass and to be large to fail. On a subset
    only the intervals decide.
    """
    broken = _broken_output(measurement)
    if broken is not None:
        return fail(broken)
    problem = _set_problem(measurement, limits) or _problem_of(
        measurement.join, limits.unreadable_max, "the device's predictions"
    )
    if problem is not None:
        return invalid(problem)
    problem = _reference_problem(measurement, limits)
    findings = _findings(measurement, limits, is_comparable=problem is None)
    missed = [finding for finding in findings if finding.is_met is False]
    if missed:
        return fail(_sentence(missed), findings)
    if problem is not None:
        return invalid(problem, findings)
    open_ones = [finding for finding in findings if finding.is_met is None]
    if open_ones:
        text = "; ".join(f"{one.name}: {one.note}" for one in open_ones)
        return inconclusive(
            f"{measurement.clip_count} clips are too few to decide: {text}", findings
        )
    return passed(_sentence(findings), findings)


def _sentence(findings: Sequence[Finding]) -> str:
    return "; ".join(one.noted for one in findings)


def _broken_output(measurement: AccuracyMeasurement) -> str | None:
    """Say what makes the output useless, or None."""
    join = measurement.join
    if join.wrong_shape is not None:
        return f"wrong shape: {join.wrong_shape}"
    if join.nonfinite_ids:
        count = len(join.nonfinite_ids)
        return f"non-finite output: NaN or Inf for {count} clips: {listed(join.nonfinite_ids)}"
    if measurement.is_constant:
        return f"constant output: the same scores for all {measurement.clip_count} clips"
    return None


def _set_problem(measurement: AccuracyMeasurement, limits: AccuracyLimits) -> str | None:
    count, wanted = measurement.clip_count, limits.clip_count
    if count < 1:
        return f"clip set {measurement.clip_set} is empty"
    if measurement.is_whole and count != wanted:
        return f"clip set {measurement.clip_set} has {count} clips, the contract says {wanted}"
    if measurement.is_whole and limits.clip_set_digest not in (None, measurement.clip_set_digest):
        return (
            f"clip set {measurement.clip_set} is not the contract's: its digest is "
            f"{measurement.clip_set_digest[:16]}, the contract says {limits.clip_set_digest:.16}"
        )
    if count > wanted:
        return f"a subset of {count} clips is larger than the whole set of {wanted}"
    if {measurement.top1.n, measurement.top5.n} != {count}:
        return f"counted over {measurement.top1.n} clips, the manifest has {count}"
    return None


def _problem_of(join: Join, unreadable_max: int, whose: str) -> str | None:
    """Say how predictions do not fit the clips of the manifest, or None."""
    for names, what in (
        (join.duplicate_ids, "are named twice"),
        (join.extra_ids, "are not in the manifest"),
        (join.missing_ids, "of the manifest are missing"),
    ):
        if names:
            return f"{whose}: {len(names)} clip(s) {what}: {listed(names)}"
    if len(join.unreadable) > unreadable_max:
        names = tuple(f"{name} ({why})" for name, why in join.unreadable.items())
        return (
            f"{len(names)} clips could not be read for {whose}, at most {unreadable_max} may: "
            f"{listed(names)}"
        )
    return None


def _reference_problem(measurement: AccuracyMeasurement, limits: AccuracyLimits) -> str | None:
    """Say why there is no comparison with the reference, or None."""
    if measurement.paired is None:
        return f"no predictions of {limits.reference} to compare with; run the reference on the same clips"
    join = measurement.paired.reference_join
    if join.wrong_shape is not None or join.nonfinite_ids:
        bad = join.wrong_shape or f"NaN or Inf for {len(join.nonfinite_ids)} clips"
        return f"the reference predictions are broken: {bad}"
    if limits.every_clip is not None and measurement.every_clip is None:
        return (
            "the contract bounds the error of every clip, which this run did not measure; run the "
            "accuracy check again"
        )
    return _problem_of(join, limits.unreadable_max, "the reference predictions")


def _findings(
    measurement: AccuracyMeasurement, limits: AccuracyLimits, *, is_comparable: bool
) -> tuple[Finding, ...]:
    top5 = _floor_finding("top-5", measurement.top5, limits.top5, measurement.is_whole)
    paired, every_clip = measurement.paired, measurement.every_clip
    if paired is None or not is_comparable:
        return _floor_finding("top-1", measurement.top1, limits.top1, measurement.is_whole), top5
    findings = (
        _top1_finding(measurement, paired, limits),
        top5,
        _paired_finding(measurement, paired, limits),
    )
    if every_clip is None or limits.every_clip is None:
        return findings
    return (*findings, *_every_clip_findings(every_clip, limits.every_clip))


def _floor_finding(name: str, count: ClipCount, floor: AccuracyFloor, is_whole: bool) -> Finding:
    least = floor_count(floor.floor, count.n)
    low, high = count.interval.low, count.interval.high
    note = (
        f"{count.k} of {count.n} clips, margin {count.k - least:+d}, 95 % interval "
        f"{100 * low:.2f} to {100 * high:.2f} %"
    )
    finding = at_least(name, count.k, least, "clips", note)
    is_decided = is_whole or low >= floor.floor or high < floor.floor
    return finding if is_decided else undecided(finding)


def _top1_finding(
    measurement: AccuracyMeasurement, paired: PairedComparison, limits: AccuracyLimits
) -> Finding:
    """Compare top-1 with its floor, less what chance takes from a reference that reaches it.

    The floor says how good the deployed model must be. Where the reference reaches it on these very clips,
    a device falls below it only by clips that flip, and a perfect device loses as many as it wins.
    """
    finding = _floor_finding("top-1", measurement.top1, limits.top1, measurement.is_whole)
    if not measurement.is_whole or paired.n != measurement.clip_count:
        return finding
    least, reference = floor_count(limits.top1.floor, paired.n), paired.reference_top1
    if reference < least:
        note = f"{finding.note}; {limits.reference} itself has {reference} on these clips"
        return finding if finding.is_met else finding.model_copy(update={"note": note})
    allowed = floor_allowance(paired, limits)
    if reference - allowed >= least:
        return finding
    note = (
        f"{finding.note} to the contract's {least}; {limits.reference} has {reference}, and a device just as "
        f"good loses up to {allowed} by chance, as {paired.b + paired.c} clips are discordant"
    )
    allowing = at_least("top-1", finding.measured, reference - allowed, "clips", note)
    return allowing.model_copy(update={"contract_limit": float(least)})


def accuracy_reaches(
    measurement: AccuracyMeasurement, limits: AccuracyLimits, b: int, c: int
) -> bool:
    """Whether top-1 would be green with ``b`` clips lost to the reference and ``c`` won."""
    paired = measurement.paired
    if paired is None:
        return False
    k = paired.reference_top1 - b + c
    top1 = measurement.top1.model_copy(update={"k": k})
    other = paired.model_copy(update={"b": b, "c": c})
    changed = measurement.model_copy(update={"top1": top1})
    found = (
        _top1_finding(changed, other, limits),
        _paired_finding(changed, other, limits),
    )
    return all(finding.is_met is True for finding in found)


def floor_allowance(paired: PairedComparison, limits: AccuracyLimits) -> int:
    """Return how many clips fewer than the reference a device may have right at the floor of top-1.

    As many as chance takes with the error rate of the contract, shared out over the cells of the
    matrix; never more than the margin of the paired comparison.
    """
    terms = limits.paired
    if terms.floor_error_rate == 1.0:
        return 0
    doubt = terms.floor_error_rate / limits.matrix_cells
    return min(chance_deficit(paired.b + paired.c, doubt), math.floor(terms.margin * paired.n))


def _paired_finding(
    measurement: AccuracyMeasurement, paired: PairedComparison, limits: AccuracyLimits
) -> Finding:
    """Compare the bounds of the loss with the margin; open where they straddle it."""
    margin, confidence = limits.paired.margin, limits.paired.confidence
    bounds = tango_bounds(paired.b, paired.c, paired.n, confidence)
    name = f"loss of top-1 against {limits.reference} (upper {100 * confidence:g} % bound)"
    detectable = minimum_detectable_loss(paired.n, paired.b + paired.c, confidence)
    note = (
        f"{limits.reference} alone right on {paired.b}, device alone on {paired.c} of {paired.n} clips, loss "
        f"{100 * paired.loss:.3f}, bounds {100 * bounds.low:.3f} to {100 * bounds.high:.3f}, mid-p "
        f"{paired.p_midp:.3g}, detectable loss {100 * detectable:.3f} points"
    )
    finding = at_most(name, 100 * bounds.high, 100 * margin, "points", note)
    if finding.is_met or bounds.low > margin or not paired.n:
        return finding
    note = f"{note}; {_what_would_decide(measurement, paired, limits)}"
    return undecided(finding).model_copy(update={"note": note})


def _what_would_decide(
    measurement: AccuracyMeasurement, paired: PairedComparison, limits: AccuracyLimits
) -> str:
    terms = limits.paired
    count = deciding_count(paired.b, paired.c, paired.n, terms.margin, terms.confidence)
    text = (
        "the loss is shown neither to be within the margin nor to be beyond it; about "
        f"{count} clips that flip as often would decide"
    )
    if not measurement.is_whole:
        return f"{text}, the whole set has {limits.clip_count}"
    return (
        f"{text}, and the set has no more: make fewer clips flip (precision of the device model), or give "
        "the contract a larger set, or another margin with its source"
    )


def _every_clip_findings(found: EveryClip, limits: EveryClipLimits) -> tuple[Finding, ...]:
    compared = f"{found.compared} clips compared"
    largest, worst = found.largest_error, found.farthest[0] if found.farthest else None
    beyond = [one.clip_id for one in found.farthest if not one.relative_l2 <= limits.relative_l2]
    return (
        at_most(
            "max abs error of every clip",
            None if largest is None else largest.max_abs_error,
            limits.max_abs_error,
            note=compared if largest is None else f"{largest.clip_id}; {compared}",
        ),
        at_most(
            "p99.9 abs error of every clip",
            found.p999_abs_error,
            limits.p999_abs_error,
            note=compared,
        ),
        at_most(
            "relative L2 of every clip",
            None if worst is None else worst.relative_l2,
            limits.relative_l2,
            note=listed(beyond) or (compared if worst is None else f"largest in {worst.clip_id}"),
        ),
    )
