"""The verdict on accuracy: contract floors as counts of clips, and the paired comparison."""

from harness.judge.limits import AccuracyFloor, AccuracyLimits, PairedLimits, floor_count
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
from harness.measure.statistics import Interval, minimum_detectable_loss, tango_bounds


def judge_accuracy(measurement: AccuracyMeasurement, limits: AccuracyLimits) -> Verdict:
    """Judge the counts against the floors and the loss against PyTorch.

    On the whole set the floors are exact and the loss has to be shown small. On a subset nothing
    is decided that the intervals do not decide.
    """
    broken = _broken_output(measurement)
    if broken is not None:
        return fail(broken)
    problem = _set_problem(measurement, limits) or _join_problem(measurement, limits)
    if problem is not None:
        return invalid(problem)
    findings = _findings(measurement, limits)
    missed = [finding for finding in findings if finding.is_met is False]
    if missed:
        return fail("; ".join(f"{one.text} ({one.note})" for one in missed), findings)
    problem = _reference_problem(measurement.paired, limits)
    if problem is not None:
        return invalid(problem, findings)
    open_ones = [finding for finding in findings if finding.is_met is None]
    if open_ones:
        text = "; ".join(f"{one.name}: {one.note}" for one in open_ones)
        return inconclusive(f"{measurement.clip_count} clips do not decide: {text}", findings)
    return passed("; ".join(f"{one.text} ({one.note})" for one in findings), findings)


def _broken_output(measurement: AccuracyMeasurement) -> str | None:
    """Name the way in which the output is no output at all."""
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


def _join_problem(measurement: AccuracyMeasurement, limits: AccuracyLimits) -> str | None:
    return _problem_of(measurement.join, limits.unreadable_max, "the device's predictions")


def _problem_of(join: Join, unreadable_max: int, whose: str) -> str | None:
    """Say how predictions fail to be of the manifest's clips, or None."""
    for names, what in (
        (join.duplicate_ids, "name a clip twice"),
        (join.extra_ids, "name clips outside the manifest"),
        (join.missing_ids, "lack clips of the manifest"),
    ):
        if names:
            return f"{whose} {what}: {len(names)} clip(s): {listed(names)}"
    if len(join.unreadable) > unreadable_max:
        names = tuple(f"{name} ({why})" for name, why in join.unreadable.items())
        return (
            f"{len(names)} clips could not be read for {whose}, at most {unreadable_max} may: "
            f"{listed(names)}"
        )
    return None


def _reference_problem(paired: PairedComparison | None, limits: AccuracyLimits) -> str | None:
    if paired is None:
        return "no predictions of PyTorch to compare with; run the reference on the same clips"
    join = paired.reference_join
    if join.wrong_shape is not None or join.nonfinite_ids:
        bad = join.wrong_shape or f"NaN or Inf for {len(join.nonfinite_ids)} clips"
        return f"the reference predictions are broken: {bad}"
    return _problem_of(join, limits.unreadable_max, "the reference predictions")


def _findings(measurement: AccuracyMeasurement, limits: AccuracyLimits) -> tuple[Finding, ...]:
    findings = [
        _floor_finding("top-1", measurement.top1, limits.top1, measurement.is_whole),
        _floor_finding("top-5", measurement.top5, limits.top5, measurement.is_whole),
    ]
    paired = measurement.paired
    if paired is not None and _reference_problem(paired, limits) is None:
        findings.append(_paired_finding(paired, limits.paired, measurement.is_whole))
    return tuple(findings)


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


def _paired_finding(paired: PairedComparison, limits: PairedLimits, is_whole: bool) -> Finding:
    bounds = tango_bounds(paired.b, paired.c, paired.n, limits.confidence)
    name = f"loss of top-1 against PyTorch (upper {100 * limits.confidence:g} % bound)"
    note = _paired_note(paired, limits, bounds)
    finding = at_most(name, 100 * bounds.high, 100 * limits.margin, "points", note)
    is_decided = is_whole or bool(finding.is_met) or bounds.low > limits.margin
    return finding if is_decided else undecided(finding)


def _paired_note(paired: PairedComparison, limits: PairedLimits, bounds: Interval) -> str:
    """Tell a loss that is too large from one that these clips cannot show to be small enough."""
    detectable = minimum_detectable_loss(paired.n, paired.b + paired.c, limits.confidence)
    text = (
        f"PyTorch alone right on {paired.b}, device alone on {paired.c} of {paired.n} clips, loss "
        f"{100 * paired.loss:.3f}, bounds {100 * bounds.low:.3f} to {100 * bounds.high:.3f}, mid-p "
        f"{paired.p_midp:.3g}, detectable loss {100 * detectable:.3f} points"
    )
    if bounds.high > limits.margin >= bounds.low:
        text += "; not shown to be within the margin, nor to be beyond it"
    return text
