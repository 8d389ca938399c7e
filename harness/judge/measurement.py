"""Any measurement, a new one or a stored one, judged by the limits of its cell."""

from harness.judge.accuracy import judge_accuracy
from harness.judge.export import judge_export
from harness.judge.limits import Limits
from harness.judge.parity import judge_parity
from harness.judge.soak import judge_soak
from harness.judge.startup import judge_startup
from harness.judge.throughput import judge_throughput
from harness.judge.verdict import Verdict
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.export import ExportMeasurement
from harness.measure.measurement import Measurement
from harness.measure.parity import ParityMeasurement
from harness.measure.soak import SoakMeasurement
from harness.measure.startup import StartupMeasurement
from harness.measure.throughput import ThroughputMeasurement


def judge_measurement(
    measurement: Measurement, limits: Limits, inputs_min: int, sessions_min: int
) -> Verdict:
    """Judge a measurement; ``inputs_min`` and ``sessions_min`` are what its tier asks for at least."""
    match measurement:
        case ExportMeasurement():
            return judge_export(measurement, limits.device_model, limits.multiply_adds)
        case ParityMeasurement():
            both = limits.parity, inputs_min, limits.host_parity
            return judge_parity(measurement, *both, limits.reference)
        case AccuracyMeasurement():
            return judge_accuracy(measurement, limits.accuracy)
        case ThroughputMeasurement():
            return judge_throughput(measurement, limits.throughput, sessions_min)
        case StartupMeasurement():
            return judge_startup(measurement, limits.startup, sessions_min)
        case SoakMeasurement():
            return judge_soak(measurement, limits.soak)
        case _:
            raise TypeError(f"there is no judge for {type(measurement).__name__}")
