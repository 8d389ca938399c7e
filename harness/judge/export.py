"""The verdict on an exported file, and on what the device's compiler made of it."""

from collections.abc import Iterator

from harness.judge.limits import DeviceModelLimits, MultiplyAddsLimits
from harness.judge.verdict import (
    Finding,
    Verdict,
    at_least,
    at_most,
    fail,
    invalid,
    listed,
    passed,
)
from harness.measure.export import ExportMeasurement


def judge_export(
    measurement: ExportMeasurement,
    limits: DeviceModelLimits | None = None,
    multiply_adds: MultiplyAddsLimits | None = None,
) -> Verdict:
    """Judge an exported file: no problem found, something looked at, and no more work than in PyTorch.

    Where the contract limits the device model, its passport has to be there and within them.
    """
    problems = at_most("problems", len(measurement.problems), 0)
    checked = at_least("nodes checked", measurement.ops_checked, 1)
    work, model = (
        tuple(_work(measurement, multiply_adds)),
        tuple(_device_model(measurement, limits)),
    )
    findings = (problems, checked, *work, *model)
    if not problems.is_met:
        count = len(measurement.problems)
        return fail(
            f"{count} problem(s) in the ONNX file: {listed(measurement.problems)}", findings
        )
    if not checked.is_met:
        return invalid("no node of the ONNX file was held against the allow list", findings)
    if multiply_adds and measurement.multiply_adds is None:
        return invalid(
            "the contract limits the multiply-adds, which this run did not count; run the check again with "
            "this suite",
            findings,
        )
    off = [finding.noted for finding in work if not finding.is_met]
    if any(finding.measured is None for finding in work):
        return invalid(f"multiply-adds were not compared: {listed(off)}", findings)
    if off:
        return fail(f"multiply-adds are not PyTorch's: {listed(off)}", findings)
    if over := [finding.text for finding in model if not finding.is_met]:
        outcome = invalid if any(finding.measured is None for finding in findings) else fail
        return outcome(f"the device model is not within its limits: {listed(over)}", findings)
    compared = (
        "multiply-adds held against nothing",
        "multiply-adds of the simplified file as in PyTorch, of the exported one not known",
        "multiply-adds as in PyTorch",
    )
    return passed(
        f"{measurement.ops_checked} nodes at opset {measurement.opset} checked, no problem found; "
        f"{compared[len(work)]}",
        findings,
    )


def _work(measurement: ExportMeasurement, limits: MultiplyAddsLimits | None) -> Iterator[Finding]:
    counts = measurement.multiply_adds
    if limits is None or counts is None:
        return
    torch = counts.torch
    for name, ours in (("simplified", counts.simplified), ("exported", counts.exported)):
        # Before it is simplified, a file may compute its sizes in ways that are not inferred.
        if name == "exported" and ours is None:
            continue
        share = None if ours is None or torch is None else abs(ours - torch) / max(1, torch)
        note = f"{_giga(ours)} in place of {_giga(torch)}"
        what = f"difference in multiply-adds of the {name} file"
        yield at_most(what, share, limits.tolerance, note=note)


def _giga(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.4g} G"


def _device_model(
    measurement: ExportMeasurement, limits: DeviceModelLimits | None
) -> Iterator[Finding]:
    if limits is None:
        return
    passport = measurement.passport
    if limits.memory_max_mb is not None:
        loaded = None if passport is None else passport.loaded_mb
        yield at_most("memory of the device model", loaded, limits.memory_max_mb, "MB")
    if limits.ai_cpu_operators_max is not None:
        slow = None if passport is None else passport.ai_cpu_operators
        count, note = (None, "") if slow is None else (len(slow), listed(slow) if slow else "")
        limit = limits.ai_cpu_operators_max
        yield at_most("operators on the AI CPU", count, limit, note=note)
