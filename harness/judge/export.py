"""The verdict on an exported file."""

from harness.judge.verdict import Verdict, at_least, at_most, fail, invalid, listed, passed
from harness.measure.export import ExportMeasurement


def judge_export(measurement: ExportMeasurement) -> Verdict:
    """Judge an exported file: no problem found, and something looked at."""
    findings = (
        at_most("problems", len(measurement.problems), 0),
        at_least("nodes checked", measurement.ops_checked, 1),
    )
    if measurement.problems:
        count = len(measurement.problems)
        return fail(
            f"{count} problem(s) in the ONNX file: {listed(measurement.problems)}", findings
        )
    if not findings[1].is_met:
        return invalid("no node of the ONNX file was held against the allow list", findings)
    return passed(
        f"{measurement.ops_checked} nodes at opset {measurement.opset} checked, no problem found",
        findings,
    )
