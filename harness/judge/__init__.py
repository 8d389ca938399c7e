"""Numbers and limits -> a verdict; knows no model and no device.

A reason is one sentence for the engineer who has to act on it, with the numbers in it. Limits are
met by ``measured >= limit`` alone, so that an undefined number meets none.
"""

from harness.judge.accuracy import judge_accuracy
from harness.judge.export import judge_export
from harness.judge.limits import floor_count
from harness.judge.parity import judge_parity
from harness.judge.throughput import judge_throughput, speed_bounds
from harness.judge.verdict import Finding, Verdict

__all__ = [
    "Finding",
    "Verdict",
    "floor_count",
    "judge_accuracy",
    "judge_export",
    "judge_parity",
    "judge_throughput",
    "speed_bounds",
]
