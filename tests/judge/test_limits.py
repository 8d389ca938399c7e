import pytest

from harness.judge.limits import SoakLimits, StartupLimits


@pytest.mark.parametrize(
    ("table", "first", "limit"),
    [
        (StartupLimits, "cold_load_max_ms, cold_first_max_ms", "device_peak_max_mb"),
        (SoakLimits, "retention_min, temperature_max_c", "energy_max_j"),
    ],
)
def test_a_table_that_limits_nothing_is_refused_with_what_it_could_limit(table, first, limit):
    with pytest.raises(ValueError, match=rf"limits nothing; there are: {first}, .*, {limit} "):
        table(source="us")
    assert getattr(table(source="us", **{limit: 1.0}), limit) == 1.0
