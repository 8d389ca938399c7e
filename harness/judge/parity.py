"""The verdict on the chain from the reference to the device."""

from collections.abc import Iterator

from harness.judge.limits import ParityLimits
from harness.judge.verdict import Finding, Verdict, at_least, at_most, fail, invalid, listed, passed
from harness.measure.parity import CHAINS, DEVICE_EDGES, EdgeParity, ParityMeasurement
from harness.measure.repeats import Repeats
from harness.spec import PYTORCH, Reference


def judge_parity(
    measurement: ParityMeasurement,
    limits: ParityLimits,
    inputs_min: int,
    host_limits: ParityLimits | None = None,
    reference: Reference = "PyTorch",
) -> Verdict:
    """Judge the chain: broken outputs first, each by name, then whether it counts, then the limits.

    Where the reference's own output is broken, no edge is to blame, and nothing counts. Edges before
    the device have ``host_limits`` where these are tighter than the device's: a device in fp16 does not
    excuse a bad export. ``inputs_min`` is how many inputs count at least.
    """
    if measurement.edges and (broken_reference := _edge_problem(measurement.edges[0], 1)):
        return invalid(broken_reference[0])
    broken = [text for edge in measurement.edges for text in _broken_output(edge)]
    if broken:
        return fail(broken[0] + _at_node(measurement), _findings(measurement, limits, host_limits))
    problem = _problem(measurement, inputs_min, reference)
    if problem is not None:
        return invalid(problem)
    findings = _findings(measurement, limits, host_limits)
    missed = [finding for finding in findings if not finding.is_met]
    if missed:
        return fail(_missed_text(missed) + _at_node(measurement), findings)
    return passed(_passed_text(measurement), findings)


def _broken_output(edge: EdgeParity) -> list[str]:
    """Say what makes an output useless."""
    if edge.shape_mismatch is not None:
        return [f"{edge.name}: wrong shape, {edge.shape_mismatch}"]
    if edge.nonfinite_count:
        size = edge.row_count * edge.class_count
        return [f"{edge.name}: non-finite output, {edge.nonfinite_count} of {size} are NaN or Inf"]
    if edge.is_constant and not edge.is_expected_constant:
        return [f"{edge.name}: constant output, the same in all {edge.row_count} rows or classes"]
    return []


def _problem(measurement: ParityMeasurement, inputs_min: int, reference: Reference) -> str | None:
    """Say why the comparison shows nothing, or None if it counts."""
    names = tuple(edge.name for edge in measurement.edges)
    count = len(measurement.input_ids)
    chain = CHAINS[reference]
    if names != chain or measurement.reference != reference:
        return f"compared {listed(names, ', ') or 'no edge'}, must be {', '.join(chain)} in order"
    if len(set(measurement.input_ids)) != count or count != measurement.input_counts.total:
        return f"{count} input ids do not match {measurement.input_counts.total} distinct inputs"
    if count < inputs_min or count < 1:
        return f"compared on {count} inputs, at least {inputs_min} are required"
    return next((text for edge in measurement.edges for text in _edge_problem(edge, count)), None)


def _edge_problem(edge: EdgeParity, input_count: int) -> list[str]:
    if edge.expected_nonfinite_count:
        count = edge.expected_nonfinite_count
        return [f"{edge.name}: {count} values to compare with are NaN or Inf; fix the reference"]
    if edge.is_expected_constant:
        return [f"{edge.name}: the reference is constant, so agreeing with it shows nothing"]
    if edge.row_count == 0 or edge.row_count % input_count:
        return [f"{edge.name}: {edge.row_count} rows do not belong to {input_count} inputs"]
    return []


def _findings(
    measurement: ParityMeasurement, limits: ParityLimits, host_limits: ParityLimits | None
) -> tuple[Finding, ...]:
    host = limits if host_limits is None else host_limits
    edges = (
        finding
        for edge in measurement.edges
        for finding in _edge_findings(
            edge, limits if edge.name in DEVICE_EDGES else host, measurement
        )
    )
    return (*edges, *_repeat_findings(measurement.repeats, limits))


def _repeat_findings(repeats: Repeats | None, limits: ParityLimits) -> Iterator[Finding]:
    """Hold the device against itself: what it computes twice may differ by no more than from the reference."""
    if repeats is None:
        return
    compared = [("device, the same batch twice", repeats.again)]
    if repeats.row is not None:
        alone = "at batch size 1" if repeats.is_single else "alone"
        compared.append((f"device, {alone} and in row {repeats.row} of a batch", repeats.alone))
    if repeats.chip_count > 1:
        compared.append((f"device, {repeats.chip_count} chips", repeats.chips))
    for name, difference in compared:
        note = "bitwise equal" if difference == 0.0 else ""
        yield at_most(f"{name}: max difference", difference, limits.max_abs_error, note=note)


def _edge_findings(
    edge: EdgeParity, limits: ParityLimits, measurement: ParityMeasurement
) -> tuple[Finding, ...]:
    anchor = edge.rmse_expected_to_exact
    allowed = limits.fp64_factor * (anchor or 0.0) + limits.fp64_atol
    ours = None if anchor is None else edge.rmse_actual_to_exact
    note = (
        ""
        if anchor is None
        else f"{measurement.reference} itself in fp32 is {anchor:.3g} from fp64"
    )
    exact = (at_most(f"{edge.name} rmse to fp64", ours, allowed, note=note),)
    return (
        # In float32 the anchor does not tell how much of a distance is its own rounding.
        *(exact if measurement.anchor == "float64" else ()),
        at_most(f"{edge.name} max abs error", edge.max_abs_error, limits.max_abs_error),
        at_most(f"{edge.name} p99.9 abs error", edge.p999_abs_error, limits.p999_abs_error),
        at_most(f"{edge.name} relative L2", edge.relative_l2, limits.relative_l2),
        at_least(f"{edge.name} cosine", edge.cosine, limits.cosine),
        at_least(
            f"{edge.name} top-1 agreement",
            edge.top1_agreement,
            limits.top1_agreement,
            note=_flip_note(edge),
        ),
        at_least(f"{edge.name} top-5 overlap", edge.top5_overlap, limits.top5_overlap),
    )


def _flip_note(edge: EdgeParity) -> str:
    rows = [
        f"{flip.row_id} {flip.expected_class} -> {flip.actual_class} (margin {flip.margin:.3g})"
        for flip in edge.flips
    ]
    return f"{len(rows)} of {edge.row_count} rows flipped: {listed(rows)}" if rows else ""


def _missed_text(missed: list[Finding]) -> str:
    more = f"; {len(missed) - 1} more limit(s) missed" if len(missed) > 1 else ""
    return missed[0].noted + more


def _at_node(measurement: ParityMeasurement) -> str:
    node = measurement.first_divergent_node
    return "" if node is None else f"; first divergent node: {node}"


def _passed_text(measurement: ParityMeasurement) -> str:
    counts = measurement.input_counts
    errors = [(edge.max_abs_error or 0.0, edge.name) for edge in measurement.edges]
    error, name = max(errors)
    origin = measurement.reference
    anchored = "" if origin == PYTORCH else f"; anchored to {origin} in {measurement.anchor}"
    return (
        f"{len(errors)} edges agree on {counts.total} inputs ({counts.clip} clips, {counts.noise} "
        f"noise, {counts.constant} constant), largest error {error:.3g} ({name})"
        f"{anchored}{_repeats_text(measurement.repeats)}"
    )


def _repeats_text(repeats: Repeats | None) -> str:
    if repeats is None:
        return ""
    alone = "at batch size 1" if repeats.is_single else "alone"
    ways = ["twice", *([f"{alone} and in a batch"] if repeats.row is not None else [])]
    ways += [f"on {repeats.chip_count} chips"] if repeats.chip_count > 1 else []
    largest = max(filter(None, (repeats.again, repeats.alone, repeats.chips)), default=0.0)
    same = "bitwise equal" if largest == 0.0 else f"within {largest:.2g}"
    return f"; repeats itself {same} ({', '.join(ways)})"
