"""The verdict on an exported file, and on what the device's compiler made of it."""

from collections.abc import Iterator

from harness.judge.limits import DeviceModelLimits
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
    measurement: ExportMeasurement, limits: DeviceModelLimits | None = None
) -> Verdict:
    """Judge an exported file: no problem found, and something looked at.

    Where the contract limits the device model, its passport has to be there and within them.
    """
    findings = (
        at_most("problems", len(measurement.problems), 0),
        at_least("nodes checked", measurement.ops_checked, 1),
        *_device_model(measurement, limits),
    )
    if measurement.problems:
        count = len(measurement.problems)
        return fail(
            f"{count} problem(s) in the ONNX file: {listed(measurement.problems)}", findings
        )
    if not findings[1].is_met:
        return invalid("no node of the ONNX file was held against the allow list", findings)
    if over := [finding.text for finding in findings if not finding.is_met]:
        unknown = any(finding.measured is None for finding in findings)
        text = f"the device model is not within its limits: {listed(over)}"
        return invalid(text, findings) if unknown else fail(text, findings)
    return passed(
        f"{measurement.ops_checked} nodes at opset {measurement.opset} checked, no problem found",
        findings,
    )


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
