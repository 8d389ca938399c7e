from typing import Any

import pytest

import harness.judge.measurement
from harness.judge.limits import Limits
from harness.judge.measurement import judge_measurement
from harness.measure.accuracy import AccuracyMeasurement
from harness.measure.export import ExportMeasurement
from harness.measure.measurement import Measurement
from harness.measure.parity import ParityMeasurement
from harness.measure.soak import SoakMeasurement
from harness.measure.startup import StartupMeasurement
from harness.measure.throughput import ThroughputMeasurement

INPUTS_MIN, SESSIONS_MIN = 64, 3
# Each table is its own name here.
NAMES: dict[str, Any] = {name: name for name in Limits.model_fields}
LIMITS = Limits.model_construct(None, **NAMES)


@pytest.mark.parametrize(
    ("kind", "judge", "terms"),
    [
        (ExportMeasurement, "judge_export", ("device_model", "multiply_adds")),
        (ParityMeasurement, "judge_parity", ("parity", INPUTS_MIN, "host_parity", "reference")),
        (AccuracyMeasurement, "judge_accuracy", ("accuracy",)),
        (ThroughputMeasurement, "judge_throughput", ("throughput", SESSIONS_MIN)),
        (StartupMeasurement, "judge_startup", ("startup", SESSIONS_MIN)),
        (SoakMeasurement, "judge_soak", ("soak",)),
    ],
)
def test_each_measurement_goes_to_its_own_judge_with_its_own_limits(
    kind, judge, terms, monkeypatch
):
    measured = kind.model_construct()
    monkeypatch.setattr(harness.judge.measurement, judge, lambda *given: given)
    given = judge_measurement(measured, LIMITS, INPUTS_MIN, SESSIONS_MIN)
    assert given[0] is measured
    assert given[1:] == terms


def test_what_has_no_judge_is_refused():
    with pytest.raises(TypeError, match="no judge for Measurement"):
        judge_measurement(Measurement(), LIMITS, INPUTS_MIN, SESSIONS_MIN)
